package main

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/PlakarKorp/kloset/objects"
	"github.com/PlakarKorp/kloset/snapshot/importer"
)

// dirImporter walks one directory, and names its parents as stock's importer
// does: the tree of a snapshot starts at "/". No extended attributes.
type dirImporter struct {
	root string
}

func (i *dirImporter) Origin(context.Context) (string, error) { return os.Hostname() }
func (i *dirImporter) Type(context.Context) (string, error)   { return "fs", nil }
func (i *dirImporter) Root(context.Context) (string, error)   { return i.root, nil }
func (i *dirImporter) Close(context.Context) error            { return nil }

func (i *dirImporter) Scan(context.Context) (<-chan *importer.ScanResult, error) {
	results := make(chan *importer.ScanResult, 64)
	go func() {
		defer close(results)
		for parent := filepath.Dir(i.root); ; parent = filepath.Dir(parent) {
			results <- record(parent)
			if parent == "/" {
				break
			}
		}
		_ = filepath.WalkDir(i.root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				results <- importer.NewScanError(path, err)
				return nil
			}
			results <- record(path)
			return nil
		})
	}()
	return results, nil
}

func record(path string) *importer.ScanResult {
	stat, err := os.Lstat(path)
	if err != nil {
		return importer.NewScanError(path, err)
	}
	info := objects.FileInfoFromStat(stat)
	if path == "/" {
		info.Lname = "/"
	}
	target := ""
	if stat.Mode()&fs.ModeSymlink != 0 {
		if target, err = os.Readlink(path); err != nil {
			return importer.NewScanError(path, err)
		}
	}
	return importer.NewScanRecord(path, target, info, nil, func() (io.ReadCloser, error) {
		return os.Open(path)
	})
}
