//go:build unix

package main

import (
	"os"
	"strconv"
	"syscall"
)

// filePlace names a file by its number in the file system: a copy has another one. The
// device is left out, since it changes when a volume is attached elsewhere.
func filePlace(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return "file " + strconv.FormatUint(stat.Ino, 10)
}
