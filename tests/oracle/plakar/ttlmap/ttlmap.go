// Package ttlmap is a map whose entries expire.
//
// It stands in for the module of the same name, written from the calls that
// plakar makes: the expiring download links of its web page. Nothing of it
// reaches a store.
package ttlmap

import (
	"sync"
	"time"
)

type entry[V any] struct {
	value   V
	expires time.Time
}

// Map keeps entries for a fixed time.
type Map[K comparable, V any] struct {
	mu      sync.Mutex
	ttl     time.Duration
	entries map[K]entry[V]
}

// New returns an empty map whose entries live for ttl.
func New[K comparable, V any](ttl time.Duration) *Map[K, V] {
	return &Map[K, V]{ttl: ttl, entries: make(map[K]entry[V])}
}

// AutoExpire is kept for callers; entries expire when they are looked up or added.
func (m *Map[K, V]) AutoExpire() {}

// Add keeps value under key for the map's time.
func (m *Map[K, V]) Add(key K, value V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for k, e := range m.entries {
		if now.After(e.expires) {
			delete(m.entries, k)
		}
	}
	m.entries[key] = entry[V]{value, now.Add(m.ttl)}
}

// Get returns the value under key, unless it has expired.
func (m *Map[K, V]) Get(key K) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[key]
	if !ok || time.Now().After(e.expires) {
		var zero V
		return zero, false
	}
	return e.value, true
}
