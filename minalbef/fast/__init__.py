"""The same training in less time: forms of the plain classes, equal to them by test."""
