//! All that is known of a room, for a person who looks for the fault.

use std::fmt::Write as _;

use crate::ledger::Ledger;
use crate::room::Room;

impl Room {
    /// All that is known, for a person who looks for the fault.
    pub async fn everything(&self) -> String {
        let mut text = self.story.clone();
        for number in 1..=self.runs {
            let log = self.bench.path(&format!("run-{number}/log"));
            if let Ok(log) = std::fs::read_to_string(log) {
                writeln!(text, "--- log of run {number}\n{log}").unwrap();
            }
        }
        for (number, moment) in self.moments.iter().enumerate() {
            writeln!(text, "--- rows after cut {}, at request {}", number + 1, moment.requests).unwrap();
            show(&moment.ledger, &mut text);
        }
        writeln!(text, "--- rows at the end").unwrap();
        show(&self.ledger().await, &mut text);
        writeln!(text, "--- the emulator's record").unwrap();
        for request in self.bench.emulator.requests() {
            writeln!(
                text,
                "{:>3} {:<8} {} {} {:?} worked={} delivered={} bytes={} part={} faults={:?}",
                request.number,
                request.operation.to_string(),
                request.filename.unwrap_or_default(),
                request.upload_id.unwrap_or_default(),
                request.status,
                request.worked,
                request.delivered,
                request.data_bytes,
                request.part_id.unwrap_or_default(),
                request.faults
            )
            .unwrap();
        }
        for file in self.bench.emulator.files() {
            writeln!(text, "File {} {} {} of {:?}", file.id, file.filename, file.bytes, file.upload_id)
                .unwrap();
        }
        for upload in self.bench.emulator.uploads() {
            let (id, name, status) = (upload.id, upload.filename, upload.status);
            writeln!(text, "Upload {id} {name} {status:?}, {} Parts", upload.parts.len()).unwrap();
        }
        text
    }
}

fn show(ledger: &Ledger, text: &mut String) {
    for (id, job) in &ledger.jobs {
        writeln!(text, "job {id}: {job:?}").unwrap();
    }
    for ((job, number), upload) in &ledger.uploads {
        let parts = ledger.parts.iter().filter(|((j, n, _), _)| (j, n) == (job, number));
        let stored: Vec<_> = parts.map(|(_, part)| part.part_id.as_deref().unwrap_or("-")).collect();
        writeln!(text, "  upload {number} of job {job}: {upload:?} {stored:?}").unwrap();
    }
    for (id, (job, event)) in &ledger.history {
        writeln!(text, "  {id}: job {job} {event}").unwrap();
    }
    for (id, request) in &ledger.requests {
        writeln!(text, "request {id}: {request:?}").unwrap();
    }
    for fault in &ledger.damage {
        writeln!(text, "DAMAGE: {fault}").unwrap();
    }
}
