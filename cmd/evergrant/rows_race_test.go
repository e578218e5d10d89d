//go:build race

package main

// manyRows are fewer under the race detector, which makes each several times as dear and
// finds as much in a thousand.
const manyRows = 1_000
