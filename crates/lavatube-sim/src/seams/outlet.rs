//! The pipeline in one thread: a frame is pressed, packed and delivered where it is submitted. Steps 4 to 7 of the walk.
//!
//! What `lavatube-node` does with threads and queues, in order and at once, so that one seed gives one trace. It must
//! not know what the steps do.

use std::cell::RefCell;

use lavatube_base::ChunkId;
use lavatube_client::collect::Outlet;
use lavatube_client::courier::Courier;
use lavatube_client::delivery::{DeliveredPack, Delivery, Packed};
use lavatube_client::frame::{Press, RawFrame};
use lavatube_client::packer::{PackError, Packer, SealedPack};

struct Inner<'a> {
    press: Press,
    packer: Packer,
    delivery: Option<Delivery<'a>>,
    delivered: Vec<DeliveredPack>,
}

/// The pipeline of one session.
pub struct Line<'a>(RefCell<Inner<'a>>);

/// The end of it that frames go into.
pub struct Front<'l, 'a>(&'l Line<'a>);

impl<'a> Line<'a> {
    /// A pipeline through `packer` into `delivery`.
    ///
    /// # Errors
    /// When the compressor cannot be set up.
    pub fn new(packer: Packer, delivery: Delivery<'a>) -> Result<Self, PackError> {
        let (press, delivery) = (Press::new(1)?, Some(delivery));
        Ok(Self(RefCell::new(Inner { press, packer, delivery, delivered: Vec::new() })))
    }

    /// Where frames go in.
    pub fn front(&self) -> Front<'_, 'a> {
        Front(self)
    }

    /// Packs and delivers what waits; may be called once.
    ///
    /// # Errors
    /// As [`Packer::close_last`] and [`Delivery::deliver`].
    pub fn finish(&self, ask: &[ChunkId]) -> Result<(Packed, Courier<'a>), PackError> {
        let inner = &mut *self.0.borrow_mut();
        while let Some(pack) = inner.packer.close_last()? {
            inner.deliver(pack)?;
        }
        let delivery = inner.delivery.take().ok_or(PackError::Ended)?;
        Ok(delivery.finish(&inner.delivered, ask))
    }
}

impl Inner<'_> {
    fn deliver(&mut self, pack: SealedPack) -> Result<(), PackError> {
        let delivery = self.delivery.as_mut().ok_or(PackError::Ended)?;
        let (delivered, buffer) = delivery.deliver(pack)?;
        self.delivered.push(delivered);
        self.packer.recycle(buffer);
        Ok(())
    }
}

impl Outlet for Front<'_, '_> {
    fn submit(&mut self, frame: RawFrame) -> Result<(), PackError> {
        let inner = &mut *self.0.0.borrow_mut();
        let (frame, _) = inner.press.press(frame)?;
        inner.packer.add(frame)?.map_or(Ok(()), |pack| inner.deliver(pack))
    }

    fn delivered(&mut self) -> Vec<DeliveredPack> {
        std::mem::take(&mut self.0.0.borrow_mut().delivered)
    }
}
