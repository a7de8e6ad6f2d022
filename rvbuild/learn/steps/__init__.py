"""The steps of a training: optimizer, learning rate, accumulated gradients, averaged weights, frozen encoder."""
