//! Connector of local file systems: importer, exporter and store.
//!
//! Linux only, from kernel 3.2 on; what newer kernels offer is used where it
//! is there. Attached disks of every sort are local: FAT and exFAT, which have
//! no owners, no links and seconds by twos, and network mounts, which may not
//! sync directories. The connector says so once and goes on.

pub mod accounts;
mod beneath;
pub mod exporter;
mod glob;
pub mod ignore;
pub mod importer;
mod kept;
pub mod mounted;
mod names;
mod new_file;
pub mod several;
pub mod store;
#[cfg(test)]
mod tests;
#[expect(unsafe_code, reason = "a system call without a wrapper")]
mod xattr;
