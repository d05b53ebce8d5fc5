package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/PlakarKorp/kloset/location"
	"github.com/PlakarKorp/kloset/objects"
	"github.com/PlakarKorp/kloset/storage"
)

// ptarStore reads a store in one file: a header of 12 bytes, the three
// resources, and a table of six offsets and lengths at the end.
type ptarStore struct {
	file                    *os.File
	config, packfile, state struct{ Offset, Length int64 }
}

var (
	errReadOnly  = errors.New("a ptar is only read here")
	ptarState    = objects.MAC{15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0}
	ptarPackfile = objects.MAC{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
)

func init() {
	if err := storage.Register("ptar", location.FLAG_LOCALFS|location.FLAG_FILE, newPtarStore); err != nil {
		panic(err)
	}
}

func newPtarStore(_ context.Context, proto string, config map[string]string) (storage.Store, error) {
	file, err := os.Open(strings.TrimPrefix(config["location"], proto+"://"))
	return &ptarStore{file: file}, err
}

func (s *ptarStore) Open(context.Context) ([]byte, error) {
	var magic [8]byte
	if _, err := s.file.ReadAt(magic[:], 0); err != nil || !bytes.Equal(magic[:], []byte("_PLATAR_")) {
		return nil, errors.Join(fmt.Errorf("not a ptar: %q", magic), err)
	}
	if _, err := s.file.Seek(-48, io.SeekEnd); err != nil {
		return nil, err
	}
	for _, part := range []any{&s.config, &s.packfile, &s.state} {
		if err := binary.Read(s.file, binary.LittleEndian, part); err != nil {
			return nil, err
		}
	}
	if s.config.Length < 1 || s.config.Length > 32768 {
		return nil, fmt.Errorf("configuration of %d bytes", s.config.Length)
	}
	config := make([]byte, s.config.Length)
	_, err := s.file.ReadAt(config, s.config.Offset)
	return config, err
}

func (s *ptarStore) section(offset, length int64) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(s.file, offset, length)), nil
}

func (s *ptarStore) GetStates(context.Context) ([]objects.MAC, error) {
	return []objects.MAC{ptarState}, nil
}

func (s *ptarStore) GetState(context.Context, objects.MAC) (io.ReadCloser, error) {
	return s.section(s.state.Offset, s.state.Length)
}

func (s *ptarStore) GetPackfiles(context.Context) ([]objects.MAC, error) {
	return []objects.MAC{ptarPackfile}, nil
}

func (s *ptarStore) GetPackfile(context.Context, objects.MAC) (io.ReadCloser, error) {
	return s.section(s.packfile.Offset, s.packfile.Length)
}

// GetPackfileBlob, like stock, bounds the range by the file and not by the
// packfile.
func (s *ptarStore) GetPackfileBlob(_ context.Context, _ objects.MAC, offset uint64, length uint32) (io.ReadCloser, error) {
	return s.section(s.packfile.Offset+int64(offset), int64(length))
}

func (s *ptarStore) Location(context.Context) (string, error) { return s.file.Name(), nil }

func (s *ptarStore) Mode(context.Context) (storage.Mode, error) { return storage.ModeRead, nil }

func (s *ptarStore) Size(context.Context) (int64, error) { return 0, nil }

func (s *ptarStore) Create(context.Context, []byte) error { return errReadOnly }

func (s *ptarStore) PutState(context.Context, objects.MAC, io.Reader) (int64, error) {
	return 0, errReadOnly
}

func (s *ptarStore) DeleteState(context.Context, objects.MAC) error { return errReadOnly }

func (s *ptarStore) PutPackfile(context.Context, objects.MAC, io.Reader) (int64, error) {
	return 0, errReadOnly
}

func (s *ptarStore) DeletePackfile(context.Context, objects.MAC) error { return errReadOnly }

func (s *ptarStore) GetLocks(context.Context) ([]objects.MAC, error) { return nil, nil }

func (s *ptarStore) PutLock(context.Context, objects.MAC, io.Reader) (int64, error) { return 0, nil }

func (s *ptarStore) GetLock(context.Context, objects.MAC) (io.ReadCloser, error) {
	return nil, errReadOnly
}

func (s *ptarStore) DeleteLock(context.Context, objects.MAC) error { return nil }

func (s *ptarStore) Close(context.Context) error { return s.file.Close() }
