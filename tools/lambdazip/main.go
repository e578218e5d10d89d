// Lambdazip packs each folder it is given, one that holds a function's bootstrap, as a
// zip file beside it, and prints the size that Lambda will load.
//
// The archive's bytes follow from the binary alone: one entry, no time, a fixed mode. So
// whoever builds the same source can compare hashes with what is deployed.
package main

import (
	"archive/zip"
	"compress/flate"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

func main() {
	for _, folder := range os.Args[1:] {
		size, err := pack(folder+".zip", filepath.Join(folder, "bootstrap"))
		if err != nil {
			fmt.Fprintln(os.Stderr, "lambdazip:", err)
			os.Exit(1)
		}
		fmt.Printf("%-24s %5.2f MiB\n", folder+".zip", float64(size)/(1<<20))
	}
}

// pack writes an archive that holds the binary as bootstrap, and returns the archive's
// size in bytes.
func pack(archive, binary string) (int64, error) {
	in, err := os.Open(binary)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	out, err := os.Create(archive)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	if err := write(out, in); err != nil {
		return 0, fmt.Errorf("%s: %w", archive, err)
	}
	size, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	return size, out.Close()
}

func write(out io.Writer, bootstrap io.Reader) error {
	w := zip.NewWriter(out)
	w.RegisterCompressor(zip.Deflate, func(out io.Writer) (io.WriteCloser, error) {
		return flate.NewWriter(out, flate.BestCompression)
	})
	header := &zip.FileHeader{Name: "bootstrap", Method: zip.Deflate}
	header.SetMode(0o755)
	entry, err := w.CreateHeader(header)
	if err != nil {
		return err
	}
	if _, err := io.Copy(entry, bootstrap); err != nil {
		return err
	}
	return w.Close()
}
