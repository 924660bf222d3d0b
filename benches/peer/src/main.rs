//! What a user would write with the crate async-openai, as its documentation shows: Parts in memory, so many at once, and no
//! ledger. `peer large FILE PART_BYTES AT_ONCE` sends one file; `peer small DIRECTORY AT_ONCE` each file of a directory.
//! Address and key come from the environment.

use std::error::Error;
use std::path::{Path, PathBuf};

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::types::InputSource;
use async_openai::types::files::{FileExpirationAfter, FileExpirationAfterAnchor};
use async_openai::types::uploads::{
    AddUploadPartRequest, CompleteUploadRequest, CreateUploadRequest, UploadPurpose,
};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let client = Client::with_config(OpenAIConfig::new().with_api_base(std::env::var("OPENAI_BASE_URL")?));
    match words[..] {
        ["large", file, part, at_once] => {
            send(&client, Path::new(file), part.parse()?, at_once.parse()?).await
        }
        ["small", directory, at_once] => {
            let files: Vec<PathBuf> =
                std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
            let sends = files.iter().map(|file| send(&client, file, 64_000_000, 1));
            stream::iter(sends).buffer_unordered(at_once.parse()?).try_collect().await
        }
        _ => Err("peer large FILE PART_BYTES AT_ONCE | peer small DIRECTORY AT_ONCE".into()),
    }
}

async fn send(client: &Client<OpenAIConfig>, path: &Path, part: u64, at_once: usize) -> Result<()> {
    let bytes = std::fs::metadata(path)?.len();
    let upload = client
        .uploads()
        .create(CreateUploadRequest {
            filename: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            purpose: UploadPurpose::Batch,
            bytes,
            mime_type: "text/jsonl".into(),
            // The crate would send null for none, which the API does not take.
            expires_after: Some(FileExpirationAfter {
                anchor: FileExpirationAfterAnchor::CreatedAt,
                seconds: 2_592_000,
            }),
        })
        .await?;
    let id = &upload.id;
    let parts = (0..bytes.div_ceil(part)).map(|index| async move {
        let mut file = tokio::fs::File::open(path).await?;
        file.seek(std::io::SeekFrom::Start(index * part)).await?;
        let mut vec = Vec::with_capacity(part.min(bytes - index * part) as usize);
        file.take(part).read_to_end(&mut vec).await?;
        let data = InputSource::VecU8 { filename: "part".into(), vec };
        Ok::<_, Box<dyn Error + Send + Sync>>(
            client.uploads().add_part(id, AddUploadPartRequest { data }).await?.id,
        )
    });
    let part_ids: Vec<String> = stream::iter(parts).buffered(at_once).try_collect().await?;
    let done = client.uploads().complete(id, CompleteUploadRequest { part_ids, md5: None }).await?;
    done.file.map(drop).ok_or_else(|| format!("{} became no File", path.display()).into())
}
