"""Import this before OpenCV, and before Paddle, which imports OpenCV: it reads its limits once."""

import os

# A limit for pictures that claim more than they hold: what Pillow refuses by itself.
MAX_PIXELS = 178_956_970

os.environ.setdefault('OPENCV_IO_MAX_IMAGE_PIXELS', str(MAX_PIXELS))
os.environ.setdefault('OPENCV_LOG_LEVEL', 'SILENT')  # broken pictures get our line, not its three
