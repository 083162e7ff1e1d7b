//! `tintype replay`: make a picture again from what its file says, and say how far the two are apart.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;
use tintype::backend::{NotHonoured, Recorded};
use tintype::metadata::{self, PictureDifference, PictureFile, PictureFormat};
use tintype::{
    CancelToken, CandleSDBackend, Error, ErrorKind, Event, GeneratedImage, Result, SDModel,
    SamplingConfig,
};

use crate::args::ReplayArgs;
use crate::generate::{load, use_threads};
use crate::logging::Talk;
use crate::naming::Naming;
use crate::output::{self, Form, columns};
use crate::progress::Progress;
use crate::{cancel, chosen, picture};

/// The document of `replay --json`; its fields are described in `docs/cli.md`.
#[derive(Serialize)]
struct Document<'a> {
    picture: &'a Path,
    format: String,
    width: u32,
    height: u32,
    /// Whether every byte of every pixel is the same.
    identical: bool,
    /// `None` where the sizes differ.
    difference: Option<PictureDifference>,
    honoured: &'a [String],
    not_honoured: &'a [NotHonoured],
    absent: &'a [&'static str],
    out: Option<PathBuf>,
    /// Of the new picture.
    parameters: String,
    warnings: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: &ReplayArgs, talk: Talk) -> anyhow::Result<()> {
    let path = args.picture.as_path();
    let file = metadata::read_picture(path)?;
    // What cannot be read is said before minutes of loading.
    let checked = recorded(path, &file, SamplingConfig::default())?;
    let options = args.load.options()?;
    let out = args.out.as_deref();
    let naming = out
        .map(|out| Naming::new(Some(out), 1, false))
        .transpose()?;
    if let Some(naming) = &naming {
        naming.check_writable(1, checked.config.seed)?;
    }
    let fewer = use_threads(args.threads)?;
    let source = chosen::source(args.model.as_deref())?;

    let cancel = cancel::on_interrupt()?;
    let progress = Progress::new(talk);
    if let Some(fewer) = fewer {
        progress.warn(&fewer);
    }
    let model = load(&source, &options, &progress, &cancel)?;
    let summary = model.card().map(|card| card.summary.as_str());
    if let Some(notice) = chosen::notice(&source, summary) {
        progress.tell(notice);
    }
    let mut recorded = recorded(path, &file, model.default_config())?;
    recorded.fit_model(&model);
    for warning in warnings(&file, &recorded, &model) {
        progress.warn(&warning);
    }
    let made = render(model, recorded.config.clone(), &progress, &cancel)?;
    progress.clear();
    let pixels = made.image.to_rgb8();
    let out = naming.map(|naming| naming.path(0, made.seed));
    if let Some(out) = &out {
        metadata::write_png(&pixels, Some(&made.parameters))
            .and_then(|bytes| metadata::write_atomically(out, &bytes))
            .context("cannot save the new picture")?;
    }
    let document = Document {
        picture: path,
        format: file.format.to_string(),
        width: file.pixels.width(),
        height: file.pixels.height(),
        identical: pixels == file.pixels,
        difference: PictureDifference::between(&file.pixels, &pixels).ok(),
        honoured: &recorded.honoured,
        not_honoured: &recorded.not_honoured,
        absent: &recorded.absent,
        out,
        parameters: made.parameters.to_text(),
        warnings: progress.warnings(),
    };
    match args.form.form() {
        Form::Json => output::write_json(&document),
        Form::Text => Ok(output::write(text(&document))?),
    }
}

/// What the file says, over `base`; a size it does not say is its own.
fn recorded(path: &Path, file: &PictureFile, base: SamplingConfig) -> Result<Recorded> {
    let parameters = file
        .parameters
        .as_ref()
        .ok_or_else(|| picture::no_parameters(path))?;
    let base = SamplingConfig {
        width: file.pixels.width() as usize,
        height: file.pixels.height() as usize,
        ..base
    };
    let context = |error: Error| error.context(path.display());
    let mut recorded = Recorded::read(parameters, base).map_err(context)?;
    recorded.not_honoured.extend(file.unmapped.iter().cloned());
    if recorded.config.seed.is_none() {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!(
                "{}: the text in this picture names no Seed, without which it cannot be made again",
                path.display()
            ),
        ));
    }
    recorded.config.validate().map_err(context)?;
    Ok(recorded)
}

/// Why the new picture may differ, beside the settings that are not honoured.
fn warnings(file: &PictureFile, recorded: &Recorded, model: &SDModel) -> Vec<String> {
    let mut warnings = recorded.model_warnings(model);
    if !recorded.absent.is_empty() {
        let own = "the text does not name these, and the model's or the picture's own are taken";
        warnings.push(format!("{own}: {}", recorded.absent.join(", ")));
    }
    if file.format == PictureFormat::Jpeg {
        warnings.push("the picture is a JPEG, which is never quite what was made".to_owned());
    }
    let (width, height) = (recorded.config.width, recorded.config.height);
    let (found_width, found_height) = file.pixels.dimensions();
    if (width, height) != (found_width as usize, found_height as usize) {
        warnings.push(format!(
            "the text says {width}x{height} and the picture has {found_width}x{found_height} pixels, so the two \
             cannot be compared"
        ));
    }
    warnings
}

fn render(
    model: SDModel,
    config: SamplingConfig,
    progress: &Progress,
    cancel: &CancelToken,
) -> anyhow::Result<GeneratedImage> {
    let backend = CandleSDBackend::new(model)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .context("cannot start the runtime")?;
    let mut screen = progress.clone();
    let observer = move |event: &Event| {
        use tintype::Observer;
        screen.on_event(event);
    };
    let made = runtime.block_on(backend.generate(config, observer, cancel.clone()))?;
    let first = made.into_iter().next();
    Ok(first.ok_or_else(|| Error::new(ErrorKind::Internal, "no picture was made"))?)
}

fn text(document: &Document<'_>) -> String {
    let Document { width, height, .. } = document;
    let mut rows = vec![
        [
            "picture".to_owned(),
            format!(
                "{} ({}, {width}x{height})",
                document.picture.display(),
                document.format
            ),
        ],
        ["honoured".to_owned(), document.honoured.join(", ")],
    ];
    for setting in document.not_honoured {
        rows.push(["not honoured".to_owned(), picture::named(setting)]);
    }
    if let Some(out) = &document.out {
        rows.push(["written".to_owned(), out.display().to_string()]);
    }
    let difference = match document.difference {
        None => "not comparable, the sizes differ".to_owned(),
        Some(_) if document.identical => "none, the same bit for bit".to_owned(),
        Some(found) => format!(
            "worst {} of 255, {:.2} % within 1, mean {:.3}, PSNR {:.1} dB",
            found.worst,
            found.within_one * 100.0,
            found.mean,
            found.psnr_db.unwrap_or(f64::INFINITY)
        ),
    };
    rows.push(["difference".to_owned(), difference]);
    columns(&rows)
}
