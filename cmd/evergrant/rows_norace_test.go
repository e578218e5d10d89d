//go:build !race

package main

// manyRows is how many connections TestImportTenThousand moves in.
const manyRows = 10_000
