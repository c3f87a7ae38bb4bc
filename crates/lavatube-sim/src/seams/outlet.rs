//! The pipeline in one thread: a frame is pressed, packed and delivered where it is submitted. Steps 4 to 7 of the walk.
//!
//! What `lavatube-node` does with threads and queues, in order and at once, so that one seed gives one trace. It must
//! not know what the steps do.

use std::cell::RefCell;

use lavatube_base::ChunkId;
use lavatube_client::collect::Outlet;
use lavatube_client::courier::Courier;
use lavatube_client::frame::{Press, RawFrame};
use lavatube_client::packer::{DeliveredPack, PackError, Packed, Packer};

struct Inner<'a> {
    press: Press,
    packer: Option<Packer<'a>>,
    delivered: Vec<DeliveredPack>,
}

/// The pipeline of one session.
pub struct Line<'a>(RefCell<Inner<'a>>);

/// The end of it that frames go into.
pub struct Front<'l, 'a>(&'l Line<'a>);

impl<'a> Line<'a> {
    /// A pipeline into `packer`.
    ///
    /// # Errors
    /// When the compressor cannot be set up.
    pub fn new(packer: Packer<'a>) -> Result<Self, PackError> {
        Ok(Self(RefCell::new(Inner { press: Press::new(1)?, packer: Some(packer), delivered: Vec::new() })))
    }

    /// Where frames go in.
    pub fn front(&self) -> Front<'_, 'a> {
        Front(self)
    }

    /// Packs what waits; may be called once.
    ///
    /// # Errors
    /// As [`Packer::finish`].
    pub fn finish(&self, ask: &[ChunkId]) -> Result<(Packed, Courier<'a>), PackError> {
        let packer = self.0.borrow_mut().packer.take().ok_or(PackError::Ended)?;
        let (last, packed, courier) = packer.finish(ask)?;
        self.0.borrow_mut().delivered.extend(last);
        Ok((packed, courier))
    }
}

impl Outlet for Front<'_, '_> {
    fn submit(&mut self, frame: RawFrame) -> Result<(), PackError> {
        let inner = &mut *self.0.0.borrow_mut();
        let (frame, _) = inner.press.press(frame)?;
        let packer = inner.packer.as_mut().ok_or(PackError::Ended)?;
        inner.delivered.extend(packer.add(frame)?);
        Ok(())
    }

    fn delivered(&mut self) -> Vec<DeliveredPack> {
        std::mem::take(&mut self.0.0.borrow_mut().delivered)
    }
}
