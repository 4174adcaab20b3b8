"""Templates of `byzbench new`: a complete component of each kind, in the file of the kind's name."""
