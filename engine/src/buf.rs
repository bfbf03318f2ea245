//! Typed allocations and borrowed ranges of them: numbers in a storage type, or ids. A view says nothing
//! of shape: names do.
//!
//! ```
//! use engine::{Buf, Device};
//!
//! let dev = Device::cpu(1).unwrap();
//! let mut x_NC = Buf::of(&dev, &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
//! x_NC.range_mut(0..2).write(&[7.0, 8.0]);
//! assert_eq!(*x_NC.rows(2, 2).read().unwrap(), [7.0, 8.0, 3.0, 4.0]);
//! ```

use crate::cpu::Space;
use crate::cuda::{self, Allocation, Cuda, Rows};
use crate::device::Device;
use crate::element::Element;
use crate::error::Error;
use crate::plan::Held;
use bytemuck::Pod;
use memmap2::MmapMut;
use rayon::prelude::*;
use std::borrow::Cow;
use std::convert::Infallible;
use std::marker::PhantomData;
use std::ops::Range;

/// One cache line; the unit of small allocations, so that every buffer starts aligned for vectors.
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub(crate) struct Line([u8; 64]);

/// Bytes that an allocation on the CPU is a multiple of.
pub(crate) const LINE: usize = size_of::<Line>();

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
    pub(crate) fn zeroed<E: Pod>(len: usize) -> Self {
        let bytes = len * size_of::<E>();
        if bytes < LARGE {
            return Memory::Small(bytemuck::zeroed_vec(bytes.div_ceil(LINE)));
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
    pub(crate) fn elements<E: Pod>(&self, len: usize) -> &[E] {
        bytemuck::cast_slice(&self.bytes()[..len * size_of::<E>()])
    }

    /// Its first `len` elements, to write.
    pub(crate) fn elements_mut<E: Pod>(&mut self, len: usize) -> &mut [E] {
        bytemuck::cast_slice_mut(&mut self.bytes_mut()[..len * size_of::<E>()])
    }
}

/// Elements that [`View::read_parts`] and [`ViewMut::fill_parts`] hand over at a time: all that a
/// transfer between a GPU and a file needs of the host's memory, whatever its length.
const PART: usize = 1 << 18;

/// One typed allocation on one device.
pub struct Buf<E> {
    place: Place,
    len: usize,
    element: PhantomData<E>,
}

/// Where a buffer lives.
enum Place {
    Host(Memory),
    Gpu(Allocation),
    /// Nowhere: a CPU that computes nothing counts it.
    Counted(#[allow(dead_code, reason = "it counts until it is dropped")] Held),
}

impl<E: Pod> Buf<E> {
    /// `len` zeros on `dev`.
    ///
    /// # Panics
    /// If they are more bytes than addresses: a caller bug.
    pub fn zeros(dev: &Device, len: usize) -> Self {
        // Room to round up.
        let bytes = len.checked_mul(size_of::<E>()).filter(|&bytes| bytes < usize::MAX / 2);
        let bytes = bytes.unwrap_or_else(|| panic!("buf: {len} elements are beyond all memory"));
        let place = match dev {
            Device::Cpu(cpu) => match cpu.hold(bytes) {
                Some(held) => Place::Counted(held),
                None => Place::Host(Memory::zeroed::<E>(len)),
            },
            Device::Cuda(cuda) => Place::Gpu(cuda.zeroed(bytes)),
        };
        Buf { place, len, element: PhantomData }
    }

    /// A copy of `values` on `dev`.
    pub fn of(dev: &Device, values: &[E]) -> Self {
        let mut buf = Buf::zeros(dev, values.len());
        buf.view_mut().write(values);
        buf
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
        let at = match &self.place {
            Place::Host(memory) => At::Host(memory.elements(self.len)),
            Place::Gpu(a) => At::Gpu(GpuRange { cuda: &a.cuda, ptr: a.ptr, len: self.len }),
            Place::Counted(_) => At::Counted(self.len),
        };
        View { at }
    }

    /// All of it, to write.
    pub fn view_mut(&mut self) -> ViewMut<'_, E> {
        let at = match &mut self.place {
            Place::Host(memory) => AtMut::Host(memory.elements_mut(self.len)),
            Place::Gpu(a) => AtMut::Gpu(GpuRange { cuda: &a.cuda, ptr: a.ptr, len: self.len }),
            Place::Counted(_) => AtMut::Counted(self.len),
        };
        ViewMut { at }
    }

    /// Sets every element to zero.
    pub fn fill_zero(&mut self, dev: &Device) {
        match (dev, &mut self.place) {
            (Device::Cpu(cpu), Place::Host(memory)) => cpu
                .install(|| memory.bytes_mut().par_chunks_mut(LARGE).for_each(|part| part.fill(0))),
            (Device::Cuda(cuda), Place::Gpu(at)) => cuda.zero(at.ptr, self.len * size_of::<E>()),
            (Device::Cpu(_), Place::Counted(_)) => (),
            _ => panic!("buf: {} does not hold this buffer", dev.describe()),
        }
    }

    /// The first `n` rows of `width` elements.
    ///
    /// # Panics
    /// If there are fewer: a caller bug.
    pub fn rows(&self, n: usize, width: usize) -> View<'_, E> {
        self.range(0..n * width)
    }

    /// The first `n` rows of `width` elements, to write.
    ///
    /// # Panics
    /// If there are fewer: a caller bug.
    pub fn rows_mut(&mut self, n: usize, width: usize) -> ViewMut<'_, E> {
        self.range_mut(0..n * width)
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
        self.view_mut().range(range)
    }
}

/// Elements on a GPU.
#[derive(Clone, Copy)]
struct GpuRange<'a> {
    cuda: &'a Cuda,
    ptr: u64,
    len: usize,
}

impl<'a> GpuRange<'a> {
    fn range<E>(self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "buf: {range:?} of {}",
            self.len
        );
        let ptr = self.ptr + (range.start * size_of::<E>()) as u64;
        GpuRange { cuda: self.cuda, ptr, len: range.len() }
    }
}

/// A range of elements that are counted.
fn counted_range(len: usize, range: Range<usize>) -> usize {
    assert!(range.start <= range.end && range.end <= len, "buf: {range:?} of {len}");
    range.len()
}

/// What a view of another device says to an op or a caller that asks for the CPU's memory, and
/// the other way round.
#[cold]
fn elsewhere(wanted: &str) -> ! {
    panic!("buf: this range is not in {wanted}'s memory")
}

/// What a counted view says to an op that computes without [`crate::Cpu::compute`].
#[cold]
fn nowhere() -> ! {
    panic!(
        "buf: this range is counted and has no memory; an op says what work space it needs first"
    )
}

/// A borrowed range of a [`Buf`].
#[derive(Clone, Copy)]
pub struct View<'a, E> {
    at: At<'a, E>,
}

#[derive(Clone, Copy)]
enum At<'a, E> {
    Host(&'a [E]),
    Gpu(GpuRange<'a>),
    Counted(usize),
}

impl<'a, E: Pod> View<'a, E> {
    /// Elements.
    pub fn len(&self) -> usize {
        match self.at {
            At::Host(data) => data.len(),
            At::Gpu(at) => at.len,
            At::Counted(len) => len,
        }
    }

    /// True if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of its elements.
    pub fn bytes(&self) -> u64 {
        (self.len() * size_of::<E>()) as u64
    }

    /// A part of this range.
    ///
    /// # Panics
    /// If `range` leaves it: a caller bug.
    pub fn range(self, range: Range<usize>) -> View<'a, E> {
        let at = match self.at {
            At::Host(data) => At::Host(&data[range]),
            At::Gpu(at) => At::Gpu(at.range::<E>(range)),
            At::Counted(len) => At::Counted(counted_range(len, range)),
        };
        View { at }
    }

    /// The elements, in the CPU's memory.
    ///
    /// # Panics
    /// If they are elsewhere: a caller bug.
    pub fn host(self) -> &'a [E] {
        match self.at {
            At::Host(data) => data,
            At::Gpu(_) => elsewhere("the CPU"),
            At::Counted(_) => nowhere(),
        }
    }

    /// The elements, wherever they are; on a GPU, after all that was queued before. Zeros, where they
    /// are only counted.
    ///
    /// # Errors
    /// [`Error::Device`] with what went wrong on the device, here or before.
    pub fn read(self) -> Result<Cow<'a, [E]>, Error> {
        match self.at {
            At::Host(data) => Ok(Cow::Borrowed(data)),
            At::Gpu(at) => {
                let mut values = vec![E::zeroed(); at.len];
                at.cuda.download(&mut values, at.ptr)?;
                Ok(Cow::Owned(values))
            }
            At::Counted(len) => Ok(Cow::Owned(vec![E::zeroed(); len])),
        }
    }

    /// Hands the elements to `each` in order and in parts, with the index of each part's first. A
    /// GPU's come through one short buffer, after all that was queued before. None come where they
    /// are only counted.
    ///
    /// # Errors
    /// [`Error::Device`] with what went wrong on the device, here or before; the first error of `each`.
    pub fn read_parts<F: From<Error>>(
        self,
        mut each: impl FnMut(usize, &[E]) -> Result<(), F>,
    ) -> Result<(), F> {
        let (len, mut staged) = (if self.is_counted() { 0 } else { self.len() }, Vec::new());
        for first in (0..len).step_by(PART) {
            let part = self.range(first..len.min(first + PART));
            match part.at {
                At::Host(data) => each(first, data)?,
                At::Gpu(at) => {
                    staged.resize(at.len, E::zeroed());
                    at.cuda.download(&mut staged, at.ptr)?;
                    each(first, &staged)?;
                }
                At::Counted(_) => unreachable!("it has no parts"),
            }
        }
        Ok(())
    }

    /// Whether nobody keeps them.
    fn is_counted(&self) -> bool {
        match self.at {
            At::Host(_) => false,
            At::Gpu(at) => at.cuda.counts(),
            At::Counted(_) => true,
        }
    }

    /// Their address on the GPU.
    pub(crate) fn gpu(self) -> *const E {
        match self.at {
            At::Host(_) | At::Counted(_) => elsewhere("the GPU"),
            At::Gpu(at) => cuda::pointer(at.ptr),
        }
    }
}

impl<'a, E: Element> View<'a, E> {
    /// The same elements as `F`, which must be the same type.
    ///
    /// # Panics
    /// If it is another: a caller bug.
    pub fn same<F: Element>(self) -> View<'a, F> {
        assert_eq!(E::DTYPE, F::DTYPE, "buf: another type");
        let at = match self.at {
            At::Host(data) => At::Host(bytemuck::cast_slice(data)),
            At::Gpu(at) => At::Gpu(at),
            At::Counted(len) => At::Counted(len),
        };
        View { at }
    }
}

impl<'a, E> From<&'a [E]> for View<'a, E> {
    fn from(data: &'a [E]) -> Self {
        View { at: At::Host(data) }
    }
}

/// A mutably borrowed range of a [`Buf`].
pub struct ViewMut<'a, E> {
    at: AtMut<'a, E>,
}

enum AtMut<'a, E> {
    Host(&'a mut [E]),
    Gpu(GpuRange<'a>),
    Counted(usize),
}

impl<'a, E: Element> ViewMut<'a, E> {
    /// The same elements, in a type that the caller knows to be this one.
    ///
    /// # Panics
    /// If it is another: a caller bug.
    pub fn same<F: Element>(self) -> ViewMut<'a, F> {
        assert_eq!(E::DTYPE, F::DTYPE, "buf: another type");
        let at = match self.at {
            AtMut::Host(data) => AtMut::Host(bytemuck::cast_slice_mut(data)),
            AtMut::Gpu(at) => AtMut::Gpu(at),
            AtMut::Counted(len) => AtMut::Counted(len),
        };
        ViewMut { at }
    }
}

impl<'a, E: Pod> ViewMut<'a, E> {
    /// Elements.
    pub fn len(&self) -> usize {
        match &self.at {
            AtMut::Host(data) => data.len(),
            AtMut::Gpu(at) => at.len,
            AtMut::Counted(len) => *len,
        }
    }

    /// True if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of its elements.
    pub fn bytes(&self) -> u64 {
        (self.len() * size_of::<E>()) as u64
    }

    /// The same range, lent for a shorter time.
    pub fn reborrow(&mut self) -> ViewMut<'_, E> {
        let at = match &mut self.at {
            AtMut::Host(data) => AtMut::Host(data),
            AtMut::Gpu(at) => AtMut::Gpu(*at),
            AtMut::Counted(len) => AtMut::Counted(*len),
        };
        ViewMut { at }
    }

    /// A part of this range.
    ///
    /// # Panics
    /// If `range` leaves it: a caller bug.
    pub fn range(self, range: Range<usize>) -> ViewMut<'a, E> {
        let at = match self.at {
            AtMut::Host(data) => AtMut::Host(&mut data[range]),
            AtMut::Gpu(at) => AtMut::Gpu(at.range::<E>(range)),
            AtMut::Counted(len) => AtMut::Counted(counted_range(len, range)),
        };
        ViewMut { at }
    }

    /// The elements, in the CPU's memory.
    ///
    /// # Panics
    /// If they are elsewhere: a caller bug.
    pub fn host(self) -> &'a mut [E] {
        match self.at {
            AtMut::Host(data) => data,
            AtMut::Gpu(_) => elsewhere("the CPU"),
            AtMut::Counted(_) => nowhere(),
        }
    }

    /// Their address on the GPU.
    pub(crate) fn gpu(self) -> *mut E {
        match self.at {
            AtMut::Host(_) | AtMut::Counted(_) => elsewhere("the GPU"),
            AtMut::Gpu(at) => cuda::pointer(at.ptr),
        }
    }

    /// Copies `values` here, wherever that is.
    ///
    /// # Panics
    /// If they are not as many: a caller bug.
    pub fn write(self, values: &[E]) {
        assert_eq!(self.len(), values.len(), "buf: write");
        match self.at {
            AtMut::Host(data) => data.copy_from_slice(values),
            AtMut::Gpu(at) => at.cuda.upload(cuda::pointer(at.ptr), values),
            AtMut::Counted(_) => (),
        }
    }

    /// Lets `write` set every element, wherever they are. What it finds there has no meaning.
    pub fn fill_with<R>(self, write: impl FnOnce(&mut [E]) -> R) -> R {
        match self.at {
            AtMut::Host(data) => write(data),
            AtMut::Gpu(at) => {
                let mut values = vec![E::zeroed(); at.len];
                let result = write(&mut values);
                at.cuda.upload(cuda::pointer(at.ptr), &values);
                result
            }
            AtMut::Counted(len) => write(&mut vec![E::zeroed(); len]),
        }
    }

    /// Sets every element to `value`.
    pub fn fill(self, value: E) {
        let filled = self.fill_parts(|_, part| {
            part.fill(value);
            Ok::<(), Infallible>(())
        });
        let Ok(()) = filled;
    }

    /// Lets `fill` set every element, in order and in parts, each with the index of its first. What
    /// it finds there has no meaning. A GPU's pass through one short buffer. It is not asked where
    /// elements are only counted.
    ///
    /// # Errors
    /// The first of `fill`; what comes after is left as it was.
    pub fn fill_parts<F>(
        self,
        mut fill: impl FnMut(usize, &mut [E]) -> Result<(), F>,
    ) -> Result<(), F> {
        match self.at {
            AtMut::Host(data) => {
                let mut parts = data.chunks_mut(PART).enumerate();
                parts.try_for_each(|(i, part)| fill(i * PART, part))
            }
            AtMut::Counted(_) => Ok(()),
            AtMut::Gpu(at) if at.cuda.counts() => Ok(()),
            AtMut::Gpu(at) => {
                let mut staged = Vec::new();
                for first in (0..at.len).step_by(PART) {
                    let part = at.range::<E>(first..at.len.min(first + PART));
                    staged.resize(part.len, E::zeroed());
                    fill(first, &mut staged)?;
                    part.cuda.upload(cuda::pointer(part.ptr), &staged);
                }
                Ok(())
            }
        }
    }
}

impl<'a, E> From<&'a mut [E]> for ViewMut<'a, E> {
    fn from(data: &'a mut [E]) -> Self {
        ViewMut { at: AtMut::Host(data) }
    }
}

/// Copies elements from one place on the device to another.
///
/// # Panics
/// If the two do not have the same length: a caller bug.
pub fn copy<E: Pod>(dev: &Device, dst: ViewMut<E>, src: View<E>) {
    assert_eq!(dst.len(), src.len(), "buf: copy");
    match dev {
        Device::Cpu(cpu) => {
            cpu.compute(Space::NONE, |_| dst.host().copy_from_slice(src.host()));
        }
        Device::Cuda(cuda) => {
            let width = src.len() * size_of::<E>();
            let [dst, src] = [dst.gpu().cast_const(), src.gpu()].map(|at| at.addr() as u64);
            cuda.copy_rows(Rows { dst, dst_stride: width, src, src_stride: width, width, rows: 1 });
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

    /// On the CPU and on an emulated GPU: every element once, in order, in bounded parts.
    #[test]
    fn parts_cover_everything_in_order() {
        let gpu = Device::Cuda(Cuda::emulated(80).unwrap());
        for dev in [Device::cpu(2).unwrap(), gpu] {
            for len in [0, 1, PART - 1, PART, PART + 1, 2 * PART + 5] {
                let mut buf = Buf::<f32>::zeros(&dev, len);
                let mut next = 0;
                let fill = |first: usize, part: &mut [f32]| {
                    assert!(first == next && !part.is_empty() && part.len() <= PART);
                    part.iter_mut().zip(first..).for_each(|(x, i)| *x = i as f32);
                    next += part.len();
                    Ok::<(), Error>(())
                };
                buf.view_mut().fill_parts(fill).unwrap();
                let mut seen = Vec::new();
                let each = |first: usize, part: &[f32]| {
                    assert!(first == seen.len() && part.len() <= PART);
                    seen.extend_from_slice(part);
                    Ok::<(), Error>(())
                };
                buf.view().read_parts(each).unwrap();
                assert!(seen.iter().enumerate().all(|(i, &x)| x == i as f32), "{len}");
                assert_eq!((next, seen.len()), (len, len));
                let stop = |first: usize, _: &[f32]| match first {
                    0 => Ok(()),
                    _ => Err(Error::Config("stop".to_string())),
                };
                assert_eq!(buf.view().read_parts(stop).is_err(), len > PART, "{len}");
            }
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
