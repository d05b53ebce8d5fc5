//! [`LinksOnDisk`]: which file of a restore has which further names.

use tiroir_core::limits::PATH_BYTES_MAX;
use tiroir_core::mac::Mac;
use tiroir_core::snapshot::restore::Links;
use tiroir_hosts::error::HostsError;
use tiroir_hosts::link_table::LinkTable;

/// [`Links`] in a table on disk.
#[derive(Debug)]
pub(crate) struct LinksOnDisk(pub(crate) LinkTable);

impl Links for LinksOnDisk {
    type Error = HostsError;

    fn first_name(
        &mut self,
        (dev, ino, object): (u64, u64, &Mac),
        path: &[u8],
        out: &mut [u8; PATH_BYTES_MAX],
    ) -> Result<Option<usize>, HostsError> {
        // The table's key is two numbers. Half a MAC of the content, mixed
        // into them, keeps apart files that had the same inode one after the
        // other; that two of them meet is as likely as that two MACs of 128
        // bits do.
        let half = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&object.0[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let (dev, ino) = (dev ^ half(0), ino ^ half(8));
        if let Some(first) = self.0.first(dev, ino)? {
            let length = first.len().min(out.len());
            out[..length].copy_from_slice(&first[..length]);
            return Ok(Some(length));
        }
        self.0.insert(dev, ino, path)?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inode_used_again_is_another_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut links = LinksOnDisk(LinkTable::new(directory.path(), 64 * 1024).unwrap());
        let mut out = [0; PATH_BYTES_MAX];
        let (first, second) = (Mac([1; 32]), Mac([2; 32]));
        assert_eq!(links.first_name((1, 2, &first), b"a", &mut out).unwrap(), None);
        assert_eq!(links.first_name((1, 2, &second), b"b", &mut out).unwrap(), None);
        assert_eq!(links.first_name((1, 2, &first), b"c", &mut out).unwrap(), Some(1));
        assert_eq!(out[0], b'a');
        assert_eq!(links.first_name((1, 2, &second), b"d", &mut out).unwrap(), Some(1));
        assert_eq!(out[0], b'b');
    }
}
