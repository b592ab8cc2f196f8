"""The layouts of weights that people have beside those of the libraries: names, and sizes told by shapes."""
