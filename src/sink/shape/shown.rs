//! A sink that is given what it was shown before: events whose body is edited already, as a dead letter has them. Comes in:
//! such events. Goes out: the same as from the sink itself. What is refused again is kept as what it is.

use super::*;

/// See the module's head.
pub struct ShownSink {
    sink: ShapedSink,
    format: Format,
    form: Form,
}

impl ShownSink {
    /// Of a sink that was built from the configuration [`again`](Self::again) makes.
    pub fn new(config: &SinkConfig, sink: ShapedSink) -> ShownSink {
        ShownSink { sink, format: config.format, form: config.form() }
    }

    /// The configuration of the same sink for what was edited for it: fields are dropped that it may not see by now, nothing
    /// is hashed or added twice.
    pub fn again(config: &SinkConfig) -> SinkConfig {
        let edit = crate::config::EditConfig { drop: config.edit.drop.clone(), ..Default::default() };
        SinkConfig { edit, ..config.clone() }
    }
}

impl Sink for ShownSink {
    fn encode(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        self.sink.encode(event, out);
    }

    fn kept(&self, event: &Event<'_>) -> Option<Kept> {
        let whole = || {
            let profile = if let Form::Ecs(profile) = self.form { profile } else { Profile::default() };
            let json = if self.format == Format::Raw { event.raw() } else { event.doc(self.form) };
            Kept { format: self.format, profile, json: json.to_vec() }
        };
        self.sink.kept(event).or_else(|| Some(whole()))
    }

    fn serial(&self) -> bool {
        self.sink.serial()
    }

    fn in_the_air(&self, configured: usize) -> usize {
        self.sink.in_the_air(configured)
    }

    async fn send(&self, batch: &EncodedBatch) -> Result<Accepted, SendError> {
        self.sink.send(batch).await
    }

    async fn probe(&self) -> Result<(), SendError> {
        self.sink.probe().await
    }

    async fn close(&self) {
        self.sink.close().await;
    }
}
