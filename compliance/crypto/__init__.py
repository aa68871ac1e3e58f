"""Keys and encryption: a hierarchy of wrapped keys, sealed cells and sealed frames."""
