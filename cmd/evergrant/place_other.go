//go:build !unix

package main

// filePlace names nothing: a file has no number here that a copy would not have.
func filePlace(string) string { return "" }
