"""Part I: framed images and Gaussian blocks."""
