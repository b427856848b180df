//! A list of members that lies in the chunks of a view.

use std::fmt;
use std::iter::FusedIterator;
use std::ops::Index;
use std::slice;
use std::sync::Arc;

use super::chunks::{Chunk, Chunks};
use super::{Member, MemberFilter};

/// Some or all members of a view, like a slice. Consecutive views share most of their members.
#[derive(Clone, Copy)]
pub struct Members<'a> {
    chunks: &'a Chunks,
    filter: MemberFilter,
}

impl<'a> Members<'a> {
    pub(super) fn new(chunks: &'a Chunks, filter: MemberFilter) -> Self {
        Members { chunks, filter }
    }

    /// Returns the number of members.
    pub fn len(&self) -> usize {
        self.chunks.count(self.filter)
    }

    /// Returns whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the members, one after another.
    pub fn iter(&self) -> MembersIter<'a> {
        MembersIter {
            chunks: self.chunks.list().iter(),
            filter: self.filter,
            chunk: [].iter(),
            left: self.len(),
        }
    }

    /// Returns the member at an index, or `None` after the last member. To visit all members, use
    /// [`iter`](Self::iter), because this counts the chunks before the index each time.
    pub fn get(&self, index: usize) -> Option<&'a Member> {
        let mut left = index;
        for chunk in self.chunks.list() {
            let members = chunk.members(self.filter);
            match members.get(left) {
                Some(member) => return Some(member),
                None => left -= members.len(),
            }
        }
        None
    }
}

impl Index<usize> for Members<'_> {
    type Output = Member;

    fn index(&self, index: usize) -> &Member {
        let len = self.len();
        self.get(index)
            .unwrap_or_else(|| panic!("index {index} of {len} members"))
    }
}

impl<'a> IntoIterator for Members<'a> {
    type Item = &'a Member;
    type IntoIter = MembersIter<'a>;

    fn into_iter(self) -> MembersIter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &Members<'a> {
    type Item = &'a Member;
    type IntoIter = MembersIter<'a>;

    fn into_iter(self) -> MembersIter<'a> {
        self.iter()
    }
}

impl PartialEq for Members<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Members<'_> {}

impl fmt::Debug for Members<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

/// The iterator of [`Members::iter`].
#[derive(Clone)]
pub struct MembersIter<'a> {
    chunks: slice::Iter<'a, Arc<Chunk>>,
    filter: MemberFilter,
    /// The rest of the chunk that is being visited.
    chunk: slice::Iter<'a, Member>,
    left: usize,
}

impl<'a> Iterator for MembersIter<'a> {
    type Item = &'a Member;

    fn next(&mut self) -> Option<&'a Member> {
        loop {
            if let Some(member) = self.chunk.next() {
                self.left -= 1;
                return Some(member);
            }
            self.chunk = self.chunks.next()?.members(self.filter).iter();
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for MembersIter<'_> {}

impl FusedIterator for MembersIter<'_> {}

impl fmt::Debug for MembersIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}
