// Command kloset-1.0 drives the engine of plakar 1.0 (kloset 1.0.12) over a
// store in a directory or a .ptar, for the tests: what is written for old
// clients must be read by the engine that they have.
//
// Usage:
//
//	kloset-1.0 STORE create
//	kloset-1.0 STORE backup DIR
//	kloset-1.0 STORE ls
//	kloset-1.0 STORE ls -r SNAPSHOT
//	kloset-1.0 STORE check [SNAPSHOT]
//	kloset-1.0 STORE cat SNAPSHOT PATH
//	kloset-1.0 STORE restore SNAPSHOT DIR
//
// SNAPSHOT is a prefix of an identifier. The passphrase is read from
// PLAKAR_PASSPHRASE; create without one makes an unencrypted store. States are
// kept in memory: nothing is left on the machine, and no run trusts another.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/PlakarKorp/kloset/caching"
	"github.com/PlakarKorp/kloset/caching/pebble"
	"github.com/PlakarKorp/kloset/encryption"
	"github.com/PlakarKorp/kloset/hashing"
	"github.com/PlakarKorp/kloset/kcontext"
	"github.com/PlakarKorp/kloset/locate"
	"github.com/PlakarKorp/kloset/logging"
	"github.com/PlakarKorp/kloset/objects"
	"github.com/PlakarKorp/kloset/repository"
	"github.com/PlakarKorp/kloset/resources"
	"github.com/PlakarKorp/kloset/snapshot"
	"github.com/PlakarKorp/kloset/snapshot/vfs"
	"github.com/PlakarKorp/kloset/storage"
	"github.com/PlakarKorp/kloset/versioning"
	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
)

var errUsage = errors.New("usage: kloset-1.0 STORE create|backup|ls|check|cat|restore ...")

// errRefused is a store that this engine declines as a whole.
var errRefused = errors.New("store refused")

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "kloset-1.0: %s\n", err)
		if errors.Is(err, errRefused) {
			os.Exit(78)
		}
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errUsage
	}
	ctx := newContext()
	defer ctx.Close()
	defer ctx.GetCache().Close()

	location, command, args := args[0], args[1], args[2:]
	if command == "create" {
		return create(ctx, location)
	}
	repo, err := open(ctx, location)
	if err != nil {
		return err
	}
	defer repo.Close()

	switch {
	case command == "backup" && len(args) == 1:
		return backup(ctx, repo, args[0])
	case command == "ls" && len(args) == 0:
		return list(repo)
	case command == "ls" && len(args) == 2 && args[0] == "-r":
		return listRecursive(repo, args[1])
	case command == "check" && len(args) <= 1:
		return check(ctx, repo, strings.Join(args, ""))
	case command == "cat" && len(args) == 2:
		return cat(repo, args[0], args[1])
	case command == "restore" && len(args) == 2:
		return restore(repo, args[0], args[1])
	}
	return errUsage
}

func newContext() *kcontext.KContext {
	ctx := kcontext.NewKContext()
	ctx.SetLogger(logging.NewLogger(os.Stdout, os.Stderr))
	ctx.SetCache(caching.NewManager(pebble.InMemoryConstructor()))
	ctx.MaxConcurrency = runtime.NumCPU()
	ctx.CWD, _ = os.Getwd()
	ctx.Hostname, _ = os.Hostname()
	ctx.OperatingSystem, ctx.Architecture = runtime.GOOS, runtime.GOARCH
	ctx.Client = "kloset-1.0"
	return ctx
}

func create(ctx *kcontext.KContext, location string) error {
	config := storage.NewConfiguration()
	var hasher hash.Hash
	if passphrase := os.Getenv("PLAKAR_PASSPHRASE"); passphrase != "" {
		key, err := encryption.DeriveKey(config.Encryption.KDFParams, []byte(passphrase))
		if err != nil {
			return err
		}
		if config.Encryption.Canary, err = encryption.DeriveCanary(config.Encryption, key); err != nil {
			return err
		}
		hasher = hashing.GetMACHasher(storage.DEFAULT_HASHING_ALGORITHM, key)
	} else {
		config.Encryption = nil
		hasher = hashing.GetHasher(storage.DEFAULT_HASHING_ALGORITHM)
	}
	payload, err := config.ToBytes()
	if err != nil {
		return err
	}
	version := versioning.GetCurrentVersion(resources.RT_CONFIG)
	rd, err := storage.Serialize(hasher, resources.RT_CONFIG, version, bytes.NewReader(payload))
	if err != nil {
		return err
	}
	wrapped, err := io.ReadAll(rd)
	if err != nil {
		return err
	}
	_, err = storage.Create(ctx, map[string]string{"location": location}, wrapped)
	return err
}

func open(ctx *kcontext.KContext, location string) (*repository.Repository, error) {
	store, wrapped, err := storage.Open(ctx, map[string]string{"location": location})
	if err != nil {
		return nil, err
	}
	config, err := storage.NewConfigurationFromWrappedBytes(wrapped)
	if err != nil {
		return nil, err
	}
	var key []byte
	if config.Encryption != nil {
		key, err = encryption.DeriveKey(config.Encryption.KDFParams, []byte(os.Getenv("PLAKAR_PASSPHRASE")))
		if err != nil {
			return nil, err
		}
		if !encryption.VerifyCanary(config.Encryption, key) {
			return nil, errors.New("failed to unlock repository")
		}
	}
	repo, err := repository.New(ctx, key, store, wrapped)
	if err != nil {
		// Among other things: a state of a version this engine does not know.
		return nil, fmt.Errorf("%w: %w", errRefused, err)
	}
	return repo, nil
}

func backup(ctx *kcontext.KContext, repo *repository.Repository, dir string) error {
	root, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	builder, err := snapshot.Create(repo, repository.DefaultType, "", objects.NilMac)
	if err != nil {
		return err
	}
	defer builder.Close()
	options := &snapshot.BackupOptions{MaxConcurrency: uint64(ctx.MaxConcurrency), NoCheckpoint: true}
	if err := builder.Backup(&dirImporter{root: root}, options); err != nil {
		return err
	}
	fmt.Printf("%x\n", builder.Header.Identifier)
	return nil
}

// list prints a line per snapshot, newest first: identifier, size, directory.
func list(repo *repository.Repository) error {
	ids, err := locate.LocateSnapshotIDs(repo, locate.NewDefaultLocateOptions())
	if err != nil {
		return err
	}
	for _, id := range ids {
		snap, err := snapshot.Load(repo, id)
		if err != nil {
			return err
		}
		source := snap.Header.GetSource(0)
		size := source.Summary.Directory.Size + source.Summary.Below.Size
		fmt.Printf("%x %d %s\n", id, size, source.Importer.Directory)
		snap.Close()
	}
	return nil
}

// walk calls each with what lies below the directory that was backed up, that
// directory first.
func walk(repo *repository.Repository, prefix string, each func(*vfs.Filesystem, string, *vfs.Entry) error) error {
	snap, pathname, err := locate.OpenSnapshotByPath(repo, prefix)
	if err != nil {
		return err
	}
	defer snap.Close()
	tree, err := snap.Filesystem()
	if err != nil {
		return err
	}
	return tree.WalkDir(pathname, func(name string, entry *vfs.Entry, err error) error {
		if err != nil {
			return err
		}
		below := strings.TrimPrefix(strings.TrimPrefix(name, pathname), "/")
		return each(tree, below, entry)
	})
}

// listRecursive prints a line per entry: time, mode, size, path, and target of
// a link. Only size and path depend on nothing else than the snapshot.
func listRecursive(repo *repository.Repository, prefix string) error {
	return walk(repo, prefix, func(_ *vfs.Filesystem, below string, entry *vfs.Entry) error {
		if below == "" {
			return nil
		}
		target := ""
		if entry.Stat().Mode()&fs.ModeSymlink != 0 {
			target = " -> " + entry.SymlinkTarget
		}
		_, err := fmt.Printf("%s %s %8s %s%s\n", entry.Stat().ModTime().UTC().Format(time.RFC3339),
			entry.Stat().Mode(), humanize.IBytes(uint64(entry.Size())), entry.Path(), target)
		return err
	})
}

// check runs the engine's own check on the snapshots with that prefix, then
// resolves every entry of their trees: where the engine has a dirpack, its
// check passes over the entries themselves.
func check(ctx *kcontext.KContext, repo *repository.Repository, prefix string) error {
	cache, err := ctx.GetCache().Check()
	if err != nil {
		return err
	}
	defer cache.Close()
	count := 0
	for _, id := range locate.LookupSnapshotByPrefix(repo, prefix) {
		snap, err := snapshot.Load(repo, id)
		if err != nil {
			return err
		}
		snap.SetCheckCache(cache)
		if err := snap.Check("/", &snapshot.CheckOptions{}); err != nil {
			return fmt.Errorf("%x: %w", id, err)
		}
		tree, err := snap.Filesystem()
		if err != nil {
			return fmt.Errorf("%x: %w", id, err)
		}
		macs, err := tree.FileMacs()
		if err != nil {
			return fmt.Errorf("%x: %w", id, err)
		}
		for mac, err := range macs {
			if err == nil {
				_, err = tree.ResolveEntry(mac)
			}
			if err != nil {
				return fmt.Errorf("%x: entry %x: %w", id, mac, err)
			}
		}
		snap.Close()
		count++
	}
	if count == 0 {
		return fmt.Errorf("no snapshot has prefix: %s", prefix)
	}
	fmt.Printf("%d snapshots checked\n", count)
	return nil
}

func cat(repo *repository.Repository, prefix, name string) error {
	snap, pathname, err := locate.OpenSnapshotByPath(repo, prefix+":"+name)
	if err != nil {
		return err
	}
	defer snap.Close()
	tree, err := snap.Filesystem()
	if err != nil {
		return err
	}
	file, err := tree.Open(pathname)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(os.Stdout, file)
	return err
}

// restore writes contents, modes, times and symbolic links below dir, which
// must not exist. Plain on purpose: it shows what the snapshot says, and not
// what an exporter makes of it.
func restore(repo *repository.Repository, prefix, dir string) error {
	type attributes struct {
		path string
		mode fs.FileMode
		time time.Time
	}
	var directories []attributes
	err := walk(repo, prefix, func(tree *vfs.Filesystem, below string, entry *vfs.Entry) error {
		dest := path.Join(dir, below)
		stat := entry.Stat()
		switch {
		case stat.Mode().IsDir():
			directories = append(directories, attributes{dest, stat.Mode(), stat.ModTime()})
			return os.Mkdir(dest, 0o700)
		case stat.Mode()&fs.ModeSymlink != 0:
			return errors.Join(os.Symlink(entry.SymlinkTarget, dest), setLinkTime(dest, stat.ModTime()))
		case !stat.Mode().IsRegular():
			return nil
		}
		in, err := entry.Open(tree)
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := os.OpenFile(dest, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			return errors.Join(err, out.Close())
		}
		return errors.Join(out.Close(), os.Chmod(dest, stat.Mode()),
			os.Chtimes(dest, stat.ModTime(), stat.ModTime()))
	})
	// Children first: writing below a directory changes its time.
	for _, d := range slices.Backward(directories) {
		err = errors.Join(err, os.Chmod(d.path, d.mode), os.Chtimes(d.path, d.time, d.time))
	}
	return err
}

// setLinkTime gives a link a time, and not what it leads to.
func setLinkTime(link string, when time.Time) error {
	ts := unix.NsecToTimespec(when.UnixNano())
	return unix.UtimesNanoAt(unix.AT_FDCWD, link, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}
