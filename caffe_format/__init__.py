"""Caffe's file format, read and written without Caffe."""
