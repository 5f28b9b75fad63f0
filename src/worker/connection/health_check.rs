//! The health check that is answered at the port of the application, without it: `--health-path`.

use super::{CloseReason, ConnectionTask};
use crate::gateway;
use crate::http::{BodyLength, HeadWriter, RequestHead, ResponseFault};
use crate::worker::lifecycle::Phase;

/// Whether a request asks whether this server should get more of them.
pub(super) fn is_meant(head: &RequestHead, task: &ConnectionTask) -> bool {
    matches!(head.method(), b"GET" | b"HEAD") && task.executor.config.quiet.is_health_check(head.path())
}

impl ConnectionTask {
    /// Answers 200 as long as the server is not about to stop, and 503 then. Nothing is logged or counted.
    pub(super) async fn answer_health_check(&mut self, head: &RequestHead) -> Option<CloseReason> {
        let is_leaving = self.executor.load.is_stopping();
        let keep_alive = self.executor.config.keep_alive && self.executor.phase() < Phase::Draining;
        let Ok((response, keep_alive)) = response(head, is_leaving, keep_alive) else {
            return Some(CloseReason::PeerGone);
        };
        if self.write(&response).await.is_err() {
            return Some(CloseReason::PeerGone);
        }
        if !keep_alive {
            return Some(self.close_reason());
        }
        self.machine.respond_done(true, self.executor.reactor.now());
        None
    }
}

fn response(
    head: &RequestHead,
    is_leaving: bool,
    keep_alive: bool,
) -> Result<(Vec<u8>, bool), ResponseFault> {
    let (status, body): (&[u8], &[u8]) =
        if is_leaving { (b"503 Service Unavailable", b"stopping\n") } else { (b"200 OK", b"ok\n") };
    let mut writer = HeadWriter::new(Vec::new());
    writer.start(status)?;
    writer.header(b"Content-Type", b"text/plain; charset=utf-8")?;
    writer.header(b"Cache-Control", b"no-store")?;
    let length = BodyLength::Exactly(body.len() as u64);
    let plan = writer.finish(head.facts(), length, keep_alive, &gateway::date_now())?;
    let mut bytes = writer.into_inner();
    if !head.facts().is_head {
        bytes.extend_from_slice(body);
    }
    Ok((bytes, plan.keep_alive))
}
