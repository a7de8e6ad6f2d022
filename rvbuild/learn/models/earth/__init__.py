"""Foundation models for imagery of the earth, as encoders."""
