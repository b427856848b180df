//! The contents of a cluster's two key ranges, as one process knows them: no I/O, no clock.

use std::cmp::Ordering;
use std::sync::Arc;

use super::row::{Name, Pair, Record, Row, Stamp};
use crate::view::unshared;
use crate::worker::{Worker, WorkerIdentity};

/// Rows of a chunk that a listing filled. A change copies one chunk, which has at most twice as
/// many.
const CHUNK: usize = 256;

/// One of the two key ranges of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyRange {
    /// The keys of registered workers.
    Ring,
    /// The keys of live workers.
    Live,
}

/// A change of one key, as a watch delivers it.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) key: Vec<u8>,
    pub(super) modified: i64,
    /// The key's new row; `None` for a deletion.
    pub(super) row: Option<Row>,
}

impl Change {
    /// `prefix` is the prefix of the key's range.
    pub(super) fn put(prefix: &str, pair: Pair<'_>) -> Self {
        Change {
            key: pair.key.to_vec(),
            modified: pair.stamp.modified,
            row: Some(Row::decode(pair, prefix.len())),
        }
    }

    pub(super) fn delete(key: &[u8], modified: i64) -> Self {
        Change {
            key: key.to_vec(),
            modified,
            row: None,
        }
    }
}

impl Change {
    /// Whether the key did not exist before.
    pub(super) fn creates(&self) -> bool {
        self.row.as_ref().is_some_and(|row| row.stamp.version == 1)
    }
}

/// What a change did to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effect {
    Nothing,
    /// The same worker was written again.
    Stamps,
    /// The list of workers differs.
    Workers,
}

/// All keys of one range, in their order.
///
/// A copy shares the chunks of the original and their list, so a copy is cheap. A change copies one
/// chunk and the list.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    prefix: Arc<[u8]>,
    /// None of them is empty.
    chunks: Arc<Vec<Arc<Vec<Row>>>>,
    len: usize,
    /// The number of rows that list an identity which is not their name.
    foreign: usize,
}

impl Table {
    /// An empty table of the keys with this prefix.
    pub(super) fn new(prefix: &str) -> Self {
        Table {
            prefix: prefix.as_bytes().into(),
            ..Table::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether a row lists an identity that is not its name.
    pub(super) fn has_foreign(&self) -> bool {
        self.foreign > 0
    }

    /// What etcd notes about the key, if the key exists.
    pub(super) fn stamp(&self, key: &[u8]) -> Option<Stamp> {
        self.row(&self.name(key).into()).map(|row| row.stamp)
    }

    fn row(&self, name: &Name<'_>) -> Option<&Row> {
        let (chunk, place) = self.place(name);
        let place = place.ok()?;
        Some(&self.chunks[chunk][place])
    }

    /// The chunk that has the name, or would get it, and the name's place there.
    fn place(&self, name: &Name<'_>) -> (usize, Result<usize, usize>) {
        let is_before = |chunk: &Arc<Vec<Row>>| chunk[0].cmp_name(name).is_le();
        let chunk = self.chunks.partition_point(is_before).saturating_sub(1);
        let place = self.chunks.get(chunk).map_or(Err(0), |rows| {
            rows.binary_search_by(|row| row.cmp_name(name))
        });
        (chunk, place)
    }

    /// Whether the change can follow the table: a put continues the key's versions or begins them,
    /// and a deletion needs an existing key. If not, a change in between was not delivered.
    pub(super) fn fits(&self, change: &Change) -> bool {
        let known = self.stamp(&change.key);
        match (&change.row, known) {
            (None, known) => known.is_some(),
            (Some(row), None) => row.stamp.version == 1 && row.stamp.created == row.stamp.modified,
            (Some(row), Some(known)) => {
                row.stamp.created == known.created
                    && known.version.checked_add(1) == Some(row.stamp.version)
            }
        }
    }

    /// Whether the table already shows the effect of this change, or of a later one of the same
    /// key.
    pub(super) fn shows(&self, change: &Change) -> bool {
        match (&change.row, self.stamp(&change.key)) {
            (Some(_), Some(known)) => known.modified >= change.modified,
            (None, Some(known)) => known.modified > change.modified,
            (Some(_), None) => false,
            (None, None) => true,
        }
    }

    pub(super) fn apply(&mut self, change: Change) -> Effect {
        let (number, place) = self.place(&self.name(&change.key).into());
        let Some(mut row) = change.row else {
            return match place {
                Ok(place) => self.remove(number, place),
                Err(_) => Effect::Nothing,
            };
        };
        let is_foreign = usize::from(row.is_foreign());
        if self.chunks.is_empty() {
            self.push(row);
            return Effect::Workers;
        }
        let chunks = Arc::make_mut(&mut self.chunks);
        let rows = Arc::make_mut(&mut chunks[number]);
        match place {
            Ok(place) => {
                let old = &mut rows[place];
                let effect = match row.share(old) {
                    true => Effect::Stamps,
                    false => Effect::Workers,
                };
                self.foreign = self.foreign + is_foreign - usize::from(old.is_foreign());
                *old = row;
                effect
            }
            Err(place) => {
                // Most chunks stay unchanged for long, so none has room for rows that may never
                // come.
                rows.reserve_exact(1);
                rows.insert(place, row);
                self.len += 1;
                self.foreign += is_foreign;
                if rows.len() > 2 * CHUNK {
                    let rest = rows.split_off(CHUNK);
                    rows.shrink_to_fit();
                    chunks.insert(number + 1, Arc::new(rest));
                }
                Effect::Workers
            }
        }
    }

    fn remove(&mut self, number: usize, place: usize) -> Effect {
        let chunks = Arc::make_mut(&mut self.chunks);
        let rows = Arc::make_mut(&mut chunks[number]);
        self.foreign -= usize::from(rows.remove(place).is_foreign());
        self.len -= 1;
        if rows.is_empty() {
            chunks.remove(number);
        } else if let Some(next) = chunks.get(number + 1)
            && chunks[number].len() + next.len() <= CHUNK
        {
            let next = chunks.remove(number + 1);
            Arc::make_mut(&mut chunks[number]).extend(next.iter().cloned());
        }
        Effect::Workers
    }

    /// Adds a row that comes after all others.
    fn push(&mut self, row: Row) {
        self.len += 1;
        self.foreign += usize::from(row.is_foreign());
        let chunks = Arc::make_mut(&mut self.chunks);
        match chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => Arc::make_mut(chunk).push(row),
            _ => {
                let mut rows = Vec::with_capacity(CHUNK);
                rows.push(row);
                chunks.push(Arc::new(rows));
            }
        }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// The full key of a row.
    pub(super) fn key(&self, row: &Row) -> Vec<u8> {
        [&*self.prefix, &row.name()].concat()
    }

    /// The key that was written last.
    pub(super) fn newest(&self) -> Option<(Vec<u8>, Stamp)> {
        let newest = self.rows().max_by_key(|row| row.stamp.modified)?;
        Some((self.key(newest), newest.stamp))
    }

    /// Whether both have the same keys, as they were written last.
    pub(super) fn same_stamps(&self, other: &Table) -> bool {
        self.len == other.len
            && self
                .rows()
                .zip(other.rows())
                .all(|(a, b)| std::ptr::eq(a, b) || (a.stamp == b.stamp && a.cmp_row(b).is_eq()))
    }

    /// Whether both list the same workers, whatever the revisions of their keys.
    fn same_listing(&self, other: &Table) -> bool {
        self.len == other.len && self.differences(other).is_empty()
    }

    /// Returns the rows that differ between this and another table, or are only in one of them, in
    /// the order of their names. Skips chunks that both tables share.
    pub(super) fn differences<'a>(
        &'a self,
        other: &'a Table,
    ) -> Vec<(Option<&'a Row>, Option<&'a Row>)> {
        if Arc::ptr_eq(&self.chunks, &other.chunks) {
            return Vec::new();
        }
        let (own, others) = unshared(&self.chunks, &other.chunks, |a, b| a[0].cmp_row(&b[0]));
        let mut own = own.into_iter().flatten().peekable();
        let mut others = others.into_iter().flatten().peekable();
        let mut differences = Vec::new();
        loop {
            let order = match (own.peek(), others.peek()) {
                (Some(a), Some(b)) => a.cmp_row(b),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return differences,
            };
            let a = own.next_if(|_| order.is_le());
            let b = others.next_if(|_| order.is_ge());
            let are_same = a.zip(b).is_some_and(|(a, b)| a.has_record_of(b));
            if !are_same {
                differences.push((a, b));
            }
        }
    }

    /// The worker of an identity under its own name.
    pub(super) fn own_worker(&self, identity: &WorkerIdentity) -> Option<&Arc<Worker>> {
        self.row(&identity.text().as_bytes().into())?.own_worker()
    }

    /// Whether the identity is listed under its own name.
    pub(super) fn has(&self, identity: &WorkerIdentity) -> bool {
        let row = self.row(&identity.text().as_bytes().into());
        row.is_some_and(Row::has_own_name)
    }

    /// Whether there is a key of this name after the prefix.
    pub(super) fn has_name(&self, name: &[u8]) -> bool {
        self.row(&name.into()).is_some()
    }

    /// The part of a key after the prefix.
    pub(super) fn name<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        key.get(self.prefix.len()..).unwrap_or_default()
    }

    /// Lets a row of the other range share the value of this table's row of the same name, if both
    /// values are equal.
    pub(super) fn share_with(&self, row: &mut Row, name: &[u8]) {
        let name = name.into();
        let is_listed = |last: &Row| last.cmp_name(&name).is_ge();
        let last = self.chunks.last().and_then(|rows| rows.last());
        if last.is_some_and(is_listed)
            && let Some(known) = self.row(&name)
        {
            row.share(known);
        }
    }
}

/// The tables of both ranges. `ring` is `None` for SERVICE_REGISTRY, which has live keys only.
#[derive(Debug, Clone, Default)]
pub(super) struct Tables {
    pub(super) ring: Option<Table>,
    pub(super) live: Table,
}

impl Tables {
    pub(super) fn table(&self, range: KeyRange) -> Option<&Table> {
        match range {
            KeyRange::Ring => self.ring.as_ref(),
            KeyRange::Live => Some(&self.live),
        }
    }

    /// Adds a page of the listing. If both keys of a worker have the same record, as usual, the
    /// record is decoded once.
    pub(super) fn add_page<'a, P>(&mut self, ring: &'a [P], live: &'a [P])
    where
        &'a P: Into<Pair<'a>>,
    {
        // The values of the page's ring keys and their records, in the order of the names.
        let mut decoded = Vec::new();
        if let Some(table) = &mut self.ring {
            for pair in ring.iter().map(Into::<Pair>::into) {
                let mut row = Row::decode(pair, table.prefix.len());
                let name = table.name(pair.key);
                self.live.share_with(&mut row, name);
                decoded.push((name, pair.value, row.record()));
                table.push(row);
            }
        }
        let mut decoded = decoded.into_iter().peekable();
        for pair in live.iter().map(Into::<Pair>::into) {
            let name = self.live.name(pair.key);
            while decoded.next_if(|(other, ..)| *other < name).is_some() {}
            let twin = decoded.next_if(|(other, value, _)| *other == name && *value == pair.value);
            let is_decoded = twin.is_some();
            let record =
                twin.map_or_else(|| Record::decode(name, pair.value), |(.., record)| record);
            let mut row = Row::new(pair.stamp, name, record);
            if let Some(ring) = self.ring.as_ref().filter(|_| !is_decoded) {
                // The ring key may be in an earlier page.
                ring.share_with(&mut row, name);
            }
            self.live.push(row);
        }
    }

    /// The part of a key of a range after the range's prefix.
    pub(super) fn name<'a>(&self, range: KeyRange, key: &'a [u8]) -> &'a [u8] {
        self.table(range).map_or(key, |table| table.name(key))
    }

    pub(super) fn same_listing(&self, other: &Tables) -> bool {
        self.live.same_listing(&other.live)
            && match (&self.ring, &other.ring) {
                (Some(a), Some(b)) => a.same_listing(b),
                (None, None) => true,
                _ => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn put(key: &str, created: i64, modified: i64, version: i64) -> Change {
        let stamp = Stamp {
            modified,
            created,
            version,
            lease: 0,
        };
        let pair = Pair {
            key: key.as_bytes(),
            value: b"{}",
            stamp,
        };
        Change::put("/", pair)
    }

    #[test]
    fn a_table_is_a_sorted_map_and_a_copy_of_it_stays_as_it_was() {
        let mut rng = StdRng::seed_from_u64(1);
        let (mut table, mut model) = (Table::new("/"), BTreeMap::new());
        for revision in 1..20_000 {
            // More keys at first, fewer in the end.
            let key = format!("/{:05}", rng.random_range(0..3_000));
            let before = (table.clone(), table.rows().count());
            if rng.random_range(0..20_000) > revision {
                table.apply(put(&key, revision, revision, 1));
                model.insert(key.clone(), revision);
            } else {
                table.apply(Change::delete(key.as_bytes(), revision));
                model.remove(&key);
            }
            let modified = table.stamp(key.as_bytes()).map(|stamp| stamp.modified);
            assert_eq!(modified, model.get(&key).copied());
            assert_eq!(
                (table.len(), before.0.rows().count()),
                (model.len(), before.1)
            );
            let sizes = table.chunks.iter().map(|chunk| chunk.len());
            assert!(sizes.clone().all(|size| (1..=2 * CHUNK).contains(&size)));
        }
        let keys = table.rows().map(|row| table.key(row));
        assert!(keys.eq(model.keys().map(|key| key.as_bytes().to_vec())));
    }

    #[test]
    fn a_change_that_skips_another_one_does_not_fit() {
        let mut table = Table::new("/");
        assert!(table.fits(&put("/a", 5, 5, 1)));
        assert!(!table.fits(&put("/a", 5, 6, 2)), "its creation is missing");
        assert!(
            !table.fits(&Change::delete(b"/a", 5)),
            "there is no such key"
        );
        table.apply(put("/a", 5, 5, 1));
        assert!(table.fits(&put("/a", 5, 7, 2)));
        assert!(!table.fits(&put("/a", 5, 7, 3)), "a write is missing");
        assert!(!table.fits(&put("/a", 7, 7, 1)), "a deletion is missing");
        assert!(table.fits(&Change::delete(b"/a", 7)));
    }
}
