package call

// Parameters that a call may leave out are pointers, nil if absent.

// Set assigns a parameter, unless it is absent.
func Set[T any](to, v *T) {
	if v != nil {
		*to = *v
	}
}

// Value returns a parameter, or the zero value if it is absent.
func Value[T any](p *T) (v T) {
	Set(&v, p)
	return v
}
