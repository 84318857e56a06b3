"""The C loops: buffers in, errors out. The only importers of the extension module, one for each subject."""
