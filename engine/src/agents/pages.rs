//! A long array in small pages: it grows without moving what is there, and leaves no holes of odd sizes behind.
//!
//! A thousand arrays that grow side by side by reallocation leave an allocator with more holes than they
//! hold; with pages, measured over 10 to 50 M agents, what is resident is what is used.

use std::ops::{Index, IndexMut};

/// Elements of a page. The first page grows up to this, so that a short array stays small.
const PAGE: u32 = 64;

/// An array with 32-bit indices.
pub(super) struct Pages<T> {
    /// All but the last are full, and none is empty.
    pages: Vec<Vec<T>>,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Pages { pages: Vec::new() }
    }
}

impl<T> Pages<T> {
    pub(super) fn len(&self) -> usize {
        self.pages.last().map_or(0, |last| (self.pages.len() - 1) * PAGE as usize + last.len())
    }

    pub(super) fn push(&mut self, element: T) {
        match self.pages.last_mut() {
            Some(last) if last.len() < PAGE as usize => last.push(element),
            Some(_) => {
                let mut page = Vec::with_capacity(PAGE as usize);
                page.push(element);
                self.pages.push(page);
            }
            None => self.pages.push(vec![element]),
        }
    }

    /// Takes an element out and puts the last one into its place. Panics if there is none.
    pub(super) fn swap_remove(&mut self, index: u32) -> T {
        let last = self.pages.last_mut().and_then(Vec::pop).expect("an element is there");
        if self.pages.last().is_some_and(Vec::is_empty) {
            self.pages.pop();
            if self.pages.len() < self.pages.capacity() / 2 {
                self.pages.shrink_to_fit();
            }
        }
        if index as usize == self.len() { last } else { std::mem::replace(&mut self[index], last) }
    }
}

impl<T> Index<u32> for Pages<T> {
    type Output = T;
    #[inline]
    fn index(&self, index: u32) -> &T {
        &self.pages[(index / PAGE) as usize][(index % PAGE) as usize]
    }
}

impl<T> IndexMut<u32> for Pages<T> {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.pages[(index / PAGE) as usize][(index % PAGE) as usize]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_an_array_holds(steps in prop::collection::vec(any::<(u8, u16)>(), 0..600)) {
            let (mut pages, mut array) = (Pages::default(), Vec::new());
            for (what, value) in steps {
                if what < 170 || array.is_empty() {
                    pages.push(value);
                    array.push(value);
                } else {
                    let index = value as usize % array.len();
                    prop_assert_eq!(pages.swap_remove(index as u32), array.swap_remove(index));
                }
                prop_assert_eq!(pages.len(), array.len());
            }
            let held: Vec<u16> = (0..pages.len()).map(|index| pages[index as u32]).collect();
            prop_assert_eq!(held, array);
        }
    }
}
