//! Typed allocations and borrowed ranges of them. A view says nothing of shape: names do.

use crate::device::Device;
use crate::element::Element;
use memmap2::MmapMut;
use rayon::prelude::*;
use std::marker::PhantomData;
use std::ops::Range;

/// One cache line; the unit of small allocations, so that every buffer starts aligned for vectors.
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub(crate) struct Line([u8; 64]);

/// From this many bytes on, memory comes from the system: a page exists once it is written, made by
/// the thread that writes it, and huge where the system has huge pages. From the heap, one thread
/// would write all of it first, to zero it: a third of a second for a model of 8M parameters.
const LARGE: usize = 2 << 20;

/// Zeroed memory, aligned to 64 bytes.
pub(crate) enum Memory {
    Small(Vec<Line>),
    Large(MmapMut),
}

impl Default for Memory {
    /// None.
    fn default() -> Self {
        Memory::Small(Vec::new())
    }
}

impl Memory {
    /// Room for `len` elements.
    pub(crate) fn zeroed<E: Element>(len: usize) -> Self {
        let bytes = len * size_of::<E>();
        if bytes < LARGE {
            return Memory::Small(bytemuck::zeroed_vec(bytes.div_ceil(size_of::<Line>())));
        }
        let pages = MmapMut::map_anon(bytes).unwrap_or_else(|e| {
            panic!("cannot allocate {bytes} bytes: {e}; make the model or batch smaller")
        });
        // Without huge pages it is only slower.
        #[cfg(target_os = "linux")]
        let _ = pages.advise(memmap2::Advice::HugePage);
        Memory::Large(pages)
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Memory::Small(lines) => bytemuck::cast_slice(lines),
            Memory::Large(pages) => pages,
        }
    }

    /// All of it, to write.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Memory::Small(lines) => bytemuck::cast_slice_mut(lines),
            Memory::Large(pages) => pages,
        }
    }

    /// Its first `len` elements.
    pub(crate) fn elements<E: Element>(&self, len: usize) -> &[E] {
        bytemuck::cast_slice(&self.bytes()[..len * size_of::<E>()])
    }

    /// Its first `len` elements, to write.
    pub(crate) fn elements_mut<E: Element>(&mut self, len: usize) -> &mut [E] {
        bytemuck::cast_slice_mut(&mut self.bytes_mut()[..len * size_of::<E>()])
    }
}

/// One typed allocation on one device.
pub struct Buf<E> {
    memory: Memory,
    len: usize,
    element: PhantomData<E>,
}

impl<E: Element> Buf<E> {
    /// `len` zeros on `dev`.
    pub fn zeros(dev: &Device, len: usize) -> Self {
        match dev {
            Device::Cpu(_) => Buf { memory: Memory::zeroed::<E>(len), len, element: PhantomData },
        }
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of its elements.
    pub fn bytes(&self) -> u64 {
        (self.len * size_of::<E>()) as u64
    }

    /// All of it.
    pub fn view(&self) -> View<'_, E> {
        View { data: self.memory.elements(self.len) }
    }

    /// All of it, to write.
    pub fn view_mut(&mut self) -> ViewMut<'_, E> {
        ViewMut { data: self.memory.elements_mut(self.len) }
    }

    /// Sets every element to zero.
    pub fn fill_zero(&mut self, dev: &Device) {
        match dev {
            Device::Cpu(cpu) => cpu.install(|| {
                self.memory.bytes_mut().par_chunks_mut(LARGE).for_each(|part| part.fill(0))
            }),
        }
    }

    /// Elements `range`.
    ///
    /// # Panics
    /// If `range` leaves the buffer: a caller bug.
    pub fn range(&self, range: Range<usize>) -> View<'_, E> {
        self.view().range(range)
    }

    /// Elements `range`, to write.
    ///
    /// # Panics
    /// If `range` leaves the buffer: a caller bug.
    pub fn range_mut(&mut self, range: Range<usize>) -> ViewMut<'_, E> {
        ViewMut { data: &mut self.view_mut().data[range] }
    }
}

/// A borrowed range of a [`Buf`].
#[derive(Clone, Copy)]
pub struct View<'a, E> {
    data: &'a [E],
}

impl<'a, E: Element> View<'a, E> {
    /// Elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// True if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Bytes of its elements.
    pub fn bytes(&self) -> u64 {
        size_of_val(self.data) as u64
    }

    /// A part of this range.
    pub fn range(self, range: Range<usize>) -> View<'a, E> {
        View { data: &self.data[range] }
    }

    /// The elements, in the CPU's memory.
    pub fn host(self) -> &'a [E] {
        self.data
    }
}

impl<'a, E> From<&'a [E]> for View<'a, E> {
    fn from(data: &'a [E]) -> Self {
        View { data }
    }
}

/// A mutably borrowed range of a [`Buf`].
pub struct ViewMut<'a, E> {
    data: &'a mut [E],
}

impl<'a, E: Element> ViewMut<'a, E> {
    /// Elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// True if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Bytes of its elements.
    pub fn bytes(&self) -> u64 {
        size_of_val(self.data) as u64
    }

    /// The elements, in the CPU's memory.
    pub fn host(self) -> &'a mut [E] {
        self.data
    }
}

impl<'a, E> From<&'a mut [E]> for ViewMut<'a, E> {
    fn from(data: &'a mut [E]) -> Self {
        ViewMut { data }
    }
}

/// Copies columns `first..first + width` of rows of `stride` into rows of `width`.
///
/// # Panics
/// If the two do not have the same number of rows: a caller bug.
pub fn copy_columns<E: Element>(
    dev: &Device,
    dst: ViewMut<E>,
    src: View<E>,
    width: usize,
    stride: usize,
    first: usize,
) {
    assert_eq!(dst.len() / width, src.len() / stride, "copy_columns: rows");
    match dev {
        Device::Cpu(_) => {
            let rows = dst.host().chunks_exact_mut(width).zip(src.host().chunks_exact(stride));
            rows.for_each(|(dst, src)| dst.copy_from_slice(&src[first..first + width]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_of_every_size_are_aligned_and_zero() {
        let dev = &Device::cpu(2).unwrap();
        for len in [0, 1, 17, LARGE / 4 - 1, LARGE / 4, LARGE / 4 + 1, LARGE] {
            let mut buf = Buf::<f32>::zeros(dev, len);
            assert_eq!((buf.len(), buf.view().host().as_ptr().addr() % 64), (len, 0));
            assert!(buf.view().host().iter().all(|&x| x == 0.0), "{len}");
            buf.view_mut().host().fill(1.0);
            buf.fill_zero(dev);
            assert!(buf.view().host().iter().all(|&x| x == 0.0), "{len}, filled");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_nobody_writes_costs_nothing() {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/statm").unwrap();
            status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
        };
        let before = resident();
        let buf = Buf::<f32>::zeros(&Device::cpu(1).unwrap(), 1 << 28);
        let grown = resident().saturating_sub(before) as u64;
        assert!(grown < buf.bytes() / 4, "{grown} bytes of {}", buf.bytes());
    }
}
