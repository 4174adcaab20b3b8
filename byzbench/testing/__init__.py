"""Conformance tests of components, for those of byzbench and for plug-ins."""
