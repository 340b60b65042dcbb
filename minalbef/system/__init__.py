"""What surrounds the paper: devices, processes, files, images, settings as text, logs, signals."""
