package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/PlakarKorp/kloset/location"
	"github.com/PlakarKorp/kloset/objects"
	"github.com/PlakarKorp/kloset/storage"
)

// dirStore is stock's store in a directory: CONFIG, packfiles/XX/NAME,
// states/XX/NAME and locks/NAME, where XX is the first byte of NAME.
type dirStore struct {
	root string
}

func init() {
	if err := storage.Register("fs", location.FLAG_LOCALFS, newDirStore); err != nil {
		panic(err)
	}
}

func newDirStore(_ context.Context, proto string, config map[string]string) (storage.Store, error) {
	return &dirStore{root: strings.TrimPrefix(config["location"], proto+"://")}, nil
}

func (s *dirStore) path(kind string, mac objects.MAC) string {
	name := hex.EncodeToString(mac[:])
	if kind == "locks" {
		return filepath.Join(s.root, kind, name)
	}
	return filepath.Join(s.root, kind, name[:2], name)
}

// list returns what lies below kind; like stock, anything that is not a file
// with a name of 64 hexadecimal digits is passed over.
func (s *dirStore) list(kind string) ([]objects.MAC, error) {
	var macs []objects.MAC
	err := filepath.WalkDir(filepath.Join(s.root, kind), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := hex.DecodeString(d.Name())
		if err != nil || len(name) != 32 {
			return nil
		}
		macs = append(macs, objects.MAC(name))
		return nil
	})
	return macs, err
}

func (s *dirStore) put(kind string, mac objects.MAC, rd io.Reader) (int64, error) {
	return putFile(s.path(kind, mac), filepath.Join(s.root, kind), rd)
}

func putFile(path, folder string, rd io.Reader) (int64, error) {
	tmp, err := os.CreateTemp(folder, "tmp.")
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(tmp, rd)
	if err := errors.Join(err, tmp.Close()); err != nil {
		return n, errors.Join(err, os.Remove(tmp.Name()))
	}
	return n, os.Rename(tmp.Name(), path)
}

func (s *dirStore) Create(_ context.Context, config []byte) error {
	for _, kind := range []string{"packfiles", "states"} {
		for i := range 256 {
			if err := os.MkdirAll(filepath.Join(s.root, kind, fmt.Sprintf("%02x", i)), 0o700); err != nil {
				return err
			}
		}
	}
	if err := os.Mkdir(filepath.Join(s.root, "locks"), 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.root, "CONFIG"), config, 0o600)
}

func (s *dirStore) Open(context.Context) ([]byte, error) {
	return os.ReadFile(filepath.Join(s.root, "CONFIG"))
}

func (s *dirStore) Location(context.Context) (string, error) { return s.root, nil }

func (s *dirStore) Mode(context.Context) (storage.Mode, error) {
	return storage.ModeRead | storage.ModeWrite, nil
}

func (s *dirStore) Size(context.Context) (int64, error) { return 0, nil }

func (s *dirStore) GetStates(context.Context) ([]objects.MAC, error) { return s.list("states") }

func (s *dirStore) PutState(_ context.Context, mac objects.MAC, rd io.Reader) (int64, error) {
	return s.put("states", mac, rd)
}

func (s *dirStore) GetState(_ context.Context, mac objects.MAC) (io.ReadCloser, error) {
	return os.Open(s.path("states", mac))
}

func (s *dirStore) DeleteState(_ context.Context, mac objects.MAC) error {
	return os.Remove(s.path("states", mac))
}

func (s *dirStore) GetPackfiles(context.Context) ([]objects.MAC, error) { return s.list("packfiles") }

func (s *dirStore) PutPackfile(_ context.Context, mac objects.MAC, rd io.Reader) (int64, error) {
	return s.put("packfiles", mac, rd)
}

func (s *dirStore) GetPackfile(_ context.Context, mac objects.MAC) (io.ReadCloser, error) {
	return os.Open(s.path("packfiles", mac))
}

type section struct {
	io.Reader
	io.Closer
}

func (s *dirStore) GetPackfileBlob(_ context.Context, mac objects.MAC, offset uint64, length uint32) (io.ReadCloser, error) {
	file, err := os.Open(s.path("packfiles", mac))
	if err != nil {
		return nil, err
	}
	return section{io.NewSectionReader(file, int64(offset), int64(length)), file}, nil
}

func (s *dirStore) DeletePackfile(_ context.Context, mac objects.MAC) error {
	return os.Remove(s.path("packfiles", mac))
}

func (s *dirStore) GetLocks(context.Context) ([]objects.MAC, error) { return s.list("locks") }

func (s *dirStore) PutLock(_ context.Context, mac objects.MAC, rd io.Reader) (int64, error) {
	return putFile(s.path("locks", mac), s.root, rd)
}

func (s *dirStore) GetLock(_ context.Context, mac objects.MAC) (io.ReadCloser, error) {
	return os.Open(s.path("locks", mac))
}

func (s *dirStore) DeleteLock(_ context.Context, mac objects.MAC) error {
	return os.Remove(s.path("locks", mac))
}

func (s *dirStore) Close(context.Context) error { return nil }
