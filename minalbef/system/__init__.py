"""What surrounds the paper: devices and processes, files, images, settings as text, logs, signals."""
