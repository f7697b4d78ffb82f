"""Import paths of version 0.1.0, kept for scripts that use them."""
