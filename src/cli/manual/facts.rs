//! What only a manual page says: exit codes, variables of the environment, files.

use crate::cli::failure::{CONFIG, FAILED, NO_SERVICE, TRY_LATER, USAGE};

/// The exit codes of a command, or of the program, with what they mean.
pub(super) fn exits(command: &str) -> Vec<(u8, &'static str)> {
    const DONE: (u8, &str) = (0, "What was asked for is done.");
    const WENT_WRONG: (u8, &str) = (FAILED, "Something failed; it is said on standard error.");
    const MISUSED: (u8, &str) = (USAGE, "The command line is wrong.");
    const HELD: (u8, &str) = (TRY_LATER, "Somebody else holds the store. Try again later.");
    const WRONG: (u8, &str) = (
        CONFIG,
        "The configuration is wrong, one line of standard error for each fault, or the store is damaged or gone.",
    );
    match command {
        "upspool" => vec![
            DONE,
            (
                FAILED,
                "Something failed, or a file that was asked for is not stored; it is said on standard error.",
            ),
            MISUSED,
            (NO_SERVICE, "No service runs (`status`)."),
            (
                TRY_LATER,
                "Try again later: the time is over, a person is needed first, or somebody else holds what is needed.",
            ),
            WRONG,
        ],
        "run" => vec![
            (0, "It was told to end and did so in order. With `--once`: all is stored."),
            (FAILED, "The service could not go on. With `--once`: something is not stored."),
            MISUSED,
            (
                TRY_LATER,
                "It cannot start now: another service runs, the store cannot be had, or the address of the page is taken. \
                 With `--once`: the time is over, a person is needed, or a file is still changing.",
            ),
            WRONG,
        ],
        "status" => vec![
            DONE,
            WENT_WRONG,
            MISUSED,
            (NO_SERVICE, "No service runs; what the store knows is printed."),
            HELD,
            WRONG,
        ],
        "wait" => vec![
            (0, "All are stored."),
            (FAILED, "One is not, and will not be by itself, or is not covered by a folder."),
            MISUSED,
            (TRY_LATER, "The time is over."),
            WRONG,
        ],
        "why" => vec![
            (0, "The file is stored, or will be without anybody's doing."),
            (FAILED, "It will not be."),
            MISUSED,
            HELD,
            WRONG,
        ],
        "completions" | "man" => vec![DONE, WENT_WRONG, MISUSED],
        _ => vec![DONE, WENT_WRONG, MISUSED, HELD, WRONG],
    }
}

/// Variables that are read. Backticks are bold.
pub(super) const ENVIRONMENT: &[(&str, &str)] = &[
    ("`UPSPOOL_CONFIG`", "The configuration file, where `--config` does not name one."),
    (
        "`UPSPOOL__`TABLE`__`KEY",
        "A setting of the configuration file, stronger than the file: `UPSPOOL__UPLOAD__PARALLEL_PARTS=4`. Not for folders and accounts.",
    ),
    ("`OPENAI_API_KEY`", "The key, where neither `key_file` nor a credential of systemd has it."),
    (
        "`OPENAI_BASE_URL`, `OPENAI_ORG_ID`, `OPENAI_PROJECT_ID`",
        "Server, organization and project, where the configuration says none.",
    ),
    (
        "`CREDENTIALS_DIRECTORY`",
        "Set by systemd. The credential `openai-api-key` is the key, `openai-api-key.`NAME that of an account.",
    ),
    ("`STATE_DIRECTORY`", "Set by systemd. The state directory, where the configuration says none."),
    (
        "`XDG_CONFIG_HOME`, `XDG_STATE_HOME`",
        "Where a user's configuration and state lie; ~/.config and ~/.local/state if not set.",
    ),
    (
        "`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`",
        "The proxy for requests to a server that is not this machine.",
    ),
    ("`NO_COLOR`", "No colours on a terminal, if it is set and not empty."),
];

/// Files that are read and written. Backticks are bold.
pub(super) const FILES: &[(&str, &str)] = &[
    (
        "`/etc/upspool/upspool.toml`, `~/.config/upspool/upspool.toml`",
        "The configuration: upspool.toml(5). The user's own is read first.",
    ),
    ("`/etc/upspool/openai-api-key`", "The key, if `key_file` names it."),
    (
        "`/var/lib/upspool/`, `~/.local/state/upspool/`",
        "The state directory, of the system's service and of a user's.",
    ),
    (
        "`upspool.db`, `upspool.db.witness`",
        "In it: queue and ledger, and how far they got. They belong together, and are copied with `upspool backup`.",
    ),
    ("`live.sock`", "In it: where commands ask the service that runs."),
    ("NAME`.upspool.json`", "In a folder with `receipt`: what became of the file NAME."),
    ("`.upspool-`JOB", "In a folder whose files are moved or deleted: one that is just being so."),
];
