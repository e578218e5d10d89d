package clients_test

import (
	"io/fs"
	"slices"
)

// withoutBuilt is a folder without what npm and the compiler put there.
type withoutBuilt struct{ fs.FS }

func (f withoutBuilt) ReadDir(name string) ([]fs.DirEntry, error) {
	list, err := fs.ReadDir(f.FS, name)
	return slices.DeleteFunc(list, func(e fs.DirEntry) bool {
		return slices.Contains([]string{"node_modules", "dist", ".test"}, e.Name())
	}), err
}
