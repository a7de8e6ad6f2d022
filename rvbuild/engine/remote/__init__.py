"""Stores on other machines: pushed to, pulled from, and read through by builds."""
