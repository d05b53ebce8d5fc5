// Stock plakar, built as a requirement of this module and not with
// `go install`: that one insists on listing every version of plakar, and takes
// no replacement for a requirement that cannot be had.
module tiroir/oracle/plakar

go 1.25.0

require github.com/PlakarKorp/plakar v1.1.4

// Expiring links of the web page; not to be had everywhere. ttlmap/ is ours,
// with the four functions that plakar calls.
replace go.omarpolo.com/ttlmap => ./ttlmap
