//! The config folder under crashes, hand edits and odd files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::*;
use stage::*;

mod settling;
mod stage;

#[test]
fn a_crash_at_any_step_and_a_redo_end_as_if_nothing_had_happened() {
    let undisturbed = Stage::with_version_1();
    let (wanted, steps) = undisturbed.disturbed(Disturbance::None);
    let wanted = wanted.unwrap();
    assert!(steps.len() > 20, "{steps:?}");
    for (index, step) in steps.iter().enumerate() {
        let stage = Stage::with_version_1();
        let (crashed, _) = stage.disturbed(Disturbance::Crash(index));
        assert!(crashed.is_err());
        assert!(!matches!(stage.standing(1, OLD), Standing::HandEdited(_)), "{}", step);
        // A second crash, anywhere in the redo, makes no difference either.
        let (again, _) = stage.disturbed(Disturbance::Crash(index / 2));
        let _ = again;
        let written =
            stage.write(&to_version_2()).unwrap_or_else(|error| panic!("{}: {error}", step));
        assert_eq!(stage.everything(), undisturbed.everything(), "{}", step);
        assert_eq!(stage.backups(), ["backup_20261122_100000"]);
        assert_eq!(written.replaced, wanted.replaced);
        assert_eq!(
            written.backup_path.unwrap().file_name(),
            wanted.backup_path.as_ref().unwrap().file_name()
        );
        assert_eq!(stage.standing(2, NEW), Standing::InStep);
        restore_backup(&stage.config, MODEL, &stage.path("backup_20261122_100000")).unwrap();
        assert_eq!([stage.content("activation.txt"), stage.content("research.md")], OLD);
        assert_eq!(stage.standing(1, OLD), Standing::InStep);
    }
}

#[test]
fn a_hand_edit_after_a_crash_is_a_conflict_and_stays() {
    for index in 0..step_count() {
        for (name, other, which) in
            [("activation.txt", "research.md", 1), ("research.md", "activation.txt", 0)]
        {
            let stage = Stage::with_version_1();
            stage.disturbed(Disturbance::Crash(index)).0.unwrap_err();
            fs::write(stage.path(name), "mine").unwrap();
            let before = stage.content(other);
            let refused = stage.write(&to_version_2()).unwrap_err();
            assert_eq!(refused.code(), "hand_edited", "step {index}");
            assert_eq!(stage.content(name), "mine");
            assert_eq!(stage.content(other), before);
            assert!([OLD[which], NEW[which]].contains(&before.as_str()));
        }
    }
}

#[test]
fn a_hand_edit_during_the_write_is_never_overwritten() {
    for index in 0..step_count() {
        for name in ["activation.txt", "research.md"] {
            let stage = Stage::with_version_1();
            let edit = Disturbance::Edit(index, stage.path(name));
            let (written, steps) = stage.disturbed(edit);
            assert_eq!(stage.content(name), "mine", "{}", steps[index]);
            if let Err(error) = written {
                assert_eq!(error.code(), "hand_edited");
            }
            assert!(matches!(stage.standing(2, NEW), Standing::HandEdited(_)));
        }
    }
}

#[test]
fn a_known_version_put_there_by_hand_is_a_conflict_too() {
    let stage = Stage::with_version_1();
    fs::write(stage.path("activation.txt"), NEW[0]).unwrap();
    let before = stage.everything();
    assert_eq!(stage.write(&to_version_2()).unwrap_err().code(), "hand_edited");
    assert_eq!(stage.everything(), before);
    assert_eq!(stage.standing(2, NEW), Standing::HandEdited(vec![ConfigFile::Activation]));
}

#[test]
fn a_later_change_takes_over_what_an_abandoned_one_left() {
    for index in 0..step_count() {
        let stage = Stage::with_version_1();
        stage.disturbed(Disturbance::Crash(index)).0.unwrap_err();
        let from = stage.read().marker.unwrap().files;
        let back = Change { expected_before: from, ..change("rollback", 1, OLD, OLD) };
        stage.write(&back).unwrap();
        assert_eq!([stage.content("activation.txt"), stage.content("research.md")], OLD);
        assert_eq!(stage.standing(1, OLD), Standing::InStep, "step {index}");
        let left = stage.everything().into_keys().find(|name| name.contains("mathesis-tmp"));
        assert_eq!(left, None, "step {index}");
    }
}

#[test]
fn two_changes_in_one_second_keep_a_backup_each() {
    let stage = Stage::with_version_1();
    stage.write(&to_version_2()).unwrap();
    let third = change("cycle 8", 3, NEW, ["three", "# three"]);
    let written = stage.write(&third).unwrap();
    assert!(written.backup_path.unwrap().ends_with("backup_20261122_100000_2"));
    restore_backup(&stage.config, MODEL, &stage.path("backup_20261122_100000_2")).unwrap();
    assert_eq!([stage.content("activation.txt"), stage.content("research.md")], NEW);
}

#[test]
fn what_is_already_there_is_left_alone() {
    let stage = Stage::with_version_1();
    let before = stage.everything();
    let same = stage.write(&change("again", 1, OLD, OLD)).unwrap();
    assert_eq!((same.backup_path, same.replaced), (None, false));
    assert_eq!(stage.everything(), before);
    // Only the template differs between the versions.
    assert_eq!(stage.standing(2, OLD), Standing::Stale);
    let template = stage.write(&change("template", 2, OLD, OLD)).unwrap();
    assert_eq!((template.backup_path, template.replaced), (None, false));
    assert_eq!(stage.standing(2, OLD), Standing::InStep);
}

#[test]
fn a_change_id_is_good_for_one_set_of_texts_and_one_starting_point() {
    let stage = Stage::with_version_1();
    stage.write(&to_version_2()).unwrap();
    let other = change("cycle 7", 3, NEW, OLD);
    assert_eq!(stage.write(&other).unwrap_err().code(), "change_reused");
    let stale = change("late", 3, ["x", "y"], ["z", "z"]);
    assert_eq!(stage.write(&stale).unwrap_err().code(), "out_of_step");
}

#[test]
fn a_missing_file_is_recorded_and_restored_as_missing() {
    let stage = Stage::with_version_1();
    fs::remove_file(stage.path("research.md")).unwrap();
    assert_eq!(stage.standing(1, OLD), Standing::Missing(vec![ConfigFile::Research]));
    stage.write(&to_version_2()).unwrap();
    let backup = stage.path("backup_20261122_100000");
    assert!(!backup.join("research.md").exists());
    let manifest = restore_backup(&stage.config, MODEL, &backup).unwrap();
    assert_eq!(manifest.before.research, None);
    assert!(!stage.path("research.md").exists());
}

#[test]
fn a_fresh_container_and_a_stale_replica_are_brought_in_step() {
    let fresh = Stage::empty();
    let both = ConfigFile::ALL.to_vec();
    assert_eq!(fresh.standing(2, NEW), Standing::Missing(both));
    let written = write_missing(&fresh.config, MODEL, &to_version_2()).unwrap();
    assert_eq!(written.backup_path, None);
    assert_eq!(fresh.standing(2, NEW), Standing::InStep);
    assert_eq!(list_models(&fresh.config).unwrap(), [MODEL]);

    let stale = Stage::with_version_1();
    fs::remove_file(stale.path("activation.txt")).unwrap();
    assert_eq!(stale.standing(2, NEW), Standing::Stale);
    let written = write_missing(&stale.config, MODEL, &to_version_2()).unwrap();
    assert!(written.backup_path.unwrap().join("research.md").exists());
    assert_eq!(stale.standing(2, NEW), Standing::InStep);
    fs::write(stale.path("research.md"), "mine").unwrap();
    let refused = write_missing(&stale.config, MODEL, &change("x", 3, NEW, OLD));
    assert_eq!(refused.unwrap_err().code(), "hand_edited");
}

#[test]
fn write_missing_survives_a_crash_at_any_step() {
    for start in [Stage::empty as fn() -> Stage, Stage::with_version_1, || {
        let stage = Stage::with_version_1();
        fs::remove_file(stage.path("activation.txt")).unwrap();
        fs::remove_file(stage.path("research.md")).unwrap();
        stage
    }] {
        let mut script = Script::new(Disturbance::None);
        let undisturbed = start();
        write::refresh_in(&undisturbed.config, MODEL, &to_version_2(), &mut script).unwrap();
        for index in 0..script.taken.len() {
            let stage = start();
            let mut crash = Script::new(Disturbance::Crash(index));
            write::refresh_in(&stage.config, MODEL, &to_version_2(), &mut crash).unwrap_err();
            assert!(!matches!(stage.standing(2, NEW), Standing::HandEdited(_)));
            write_missing(&stage.config, MODEL, &to_version_2()).unwrap();
            assert_eq!(stage.everything(), undisturbed.everything());
        }
    }
}

#[test]
fn without_a_marker_equal_files_are_adopted_and_others_are_a_conflict() {
    let stage = Stage::with_version_1();
    fs::remove_file(stage.path(".mathesis.json")).unwrap();
    assert_eq!(stage.standing(1, OLD), Standing::Unmarked);
    assert_eq!(stage.standing(2, NEW), Standing::HandEdited(ConfigFile::ALL.to_vec()));
    assert_eq!(standing(&stage.read(), &expected(2, NEW), true), Standing::Unmarked);
    let wrong = adopt(&stage.config, MODEL, 2, &hashes_of(&texts(NEW)), "x", at());
    assert_eq!(wrong.unwrap_err().code(), "hand_edited");
    adopt(&stage.config, MODEL, 1, &hashes_of(&texts(OLD)), "x", at()).unwrap();
    assert_eq!(stage.standing(1, OLD), Standing::InStep);
    assert_eq!(stage.read().activation.unwrap().text, OLD[0]);
}

#[test]
fn a_damaged_backup_is_not_restored_nor_relied_on() {
    let stage = Stage::with_version_1();
    let (_, steps) = Stage::with_version_1().disturbed(Disturbance::None);
    let named = steps.iter().position(|step| step == "look again at and replace activation.txt");
    stage.disturbed(Disturbance::Crash(named.unwrap())).0.unwrap_err();
    fs::write(stage.path("backup_20261122_100000/research.md"), "rot").unwrap();
    assert_eq!(stage.write(&to_version_2()).unwrap_err().code(), "backup_damaged");
    let restored = restore_backup(&stage.config, MODEL, &stage.path("backup_20261122_100000"));
    assert_eq!(restored.unwrap_err().code(), "backup_damaged");
    assert_eq!([stage.content("activation.txt"), stage.content("research.md")], OLD);
}

#[test]
fn errors_say_what_became_of_the_data() {
    let stage = Stage::with_version_1();
    let (full, steps) = stage.disturbed(Disturbance::Fail(0, io::ErrorKind::StorageFull));
    assert!(steps.len() == 1);
    let said = |error: &FilesError| {
        let home = fs::canonicalize(&stage.config).unwrap();
        error.to_string().replace(home.to_str().unwrap(), "config")
    };
    let full = full.unwrap_err();
    assert_eq!(full.code(), "disk_full");
    insta::assert_snapshot!(said(&full), @"cannot create config/wan-2.5-edit/.mathesis-tmp-backup: no storage space. Nothing was changed. Free space on that disk, then retry.");
    let (_, steps) = Stage::with_version_1().disturbed(Disturbance::None);
    let research =
        steps.iter().position(|step| step == "look again at and replace research.md").unwrap();
    let kind = io::ErrorKind::PermissionDenied;
    let (half, _) = stage.disturbed(Disturbance::Fail(research, kind));
    let half = half.unwrap_err();
    assert_eq!(half.code(), "read_only");
    insta::assert_snapshot!(said(&half), @"cannot replace config/wan-2.5-edit/research.md: permission denied. activation.txt already holds the new version. The files from before are in config/wan-2.5-edit/backup_20261122_100000. Let this process write there, then retry.");
    fs::write(stage.path("research.md"), "mine").unwrap();
    insta::assert_snapshot!(said(&stage.write(&to_version_2()).unwrap_err()), @"config/wan-2.5-edit/research.md was edited by hand since it was last written, and is left alone. activation.txt already holds the new version. The files from before are in config/wan-2.5-edit/backup_20261122_100000. `mathesis files conflict list` shows the edit and the ways out");
}

#[test]
fn odd_files_are_refused_by_name() {
    let code = |prepare: &dyn Fn(&Stage)| {
        let stage = Stage::with_version_1();
        fs::remove_file(stage.path("research.md")).unwrap();
        prepare(&stage);
        let error = read_model(&stage.config, MODEL).unwrap_err();
        assert!(error.to_string().contains(MODEL), "{error}");
        error.code()
    };
    assert_eq!(code(&|stage| fs::write(stage.path("research.md"), b"\xff").unwrap()), "not_text");
    assert_eq!(code(&|stage| fs::write(stage.path("research.md"), "a\0").unwrap()), "not_text");
    assert_eq!(code(&|stage| fs::create_dir(stage.path("research.md")).unwrap()), "wrong_kind");
    assert_eq!(code(&|stage| fs::write(stage.path(".mathesis.json"), "{").unwrap()), "unreadable");
    let large = vec![b'x'; 8 * 1024 * 1024 + 1];
    assert_eq!(code(&|stage| fs::write(stage.path("research.md"), &large).unwrap()), "too_large");
    let long = "a".repeat(300);
    for name in ["", "..", "a/b", ".hidden", "/etc", "a\\b", "a:b", "a\0", "a\n", &long] {
        assert_eq!(read_model(Path::new("/nowhere"), name).unwrap_err().code(), "bad_name");
    }
}

#[cfg(unix)]
#[test]
fn links_may_stay_inside_the_config_folder_only() {
    use std::os::unix::fs::symlink;
    let stage = Stage::with_version_1();
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::remove_file(stage.path("research.md")).unwrap();
    symlink(outside.path(), stage.path("research.md")).unwrap();
    assert_eq!(read_model(&stage.config, MODEL).unwrap_err().code(), "link_outside");
    assert_eq!(stage.write(&to_version_2()).unwrap_err().code(), "link_outside");

    fs::remove_file(stage.path("research.md")).unwrap();
    fs::write(stage.config.join("shared.md"), OLD[1]).unwrap();
    symlink("../shared.md", stage.path("research.md")).unwrap();
    stage.write(&to_version_2()).unwrap();
    assert!(stage.path("research.md").is_symlink());
    assert_eq!(fs::read_to_string(stage.config.join("shared.md")).unwrap(), NEW[1]);
}

#[cfg(unix)]
#[test]
fn a_link_to_what_is_another_models_is_refused() {
    use std::os::unix::fs::symlink;
    let stage = Stage::with_version_1();
    symlink(MODEL, stage.config.join("another")).unwrap();
    let refused = read_model(&stage.config, "another").unwrap_err();
    assert_eq!(refused.code(), "link_shared");
    assert!(refused.to_string().contains(MODEL), "{refused}");
    let written = write_version(&stage.config, "another", &to_version_2());
    assert_eq!(written.unwrap_err().code(), "link_shared");
    assert_eq!(stage.content("research.md"), OLD[1]);
    read_model(&stage.config, MODEL).expect("the one whose folder it is goes on");

    // A document of another model's, and one that two models link to.
    fs::remove_file(stage.config.join("another")).unwrap();
    fs::create_dir(stage.config.join("another")).unwrap();
    let linked = stage.config.join("another/research.md");
    symlink(stage.path("research.md"), &linked).unwrap();
    assert_eq!(read_model(&stage.config, "another").unwrap_err().code(), "link_shared");
    fs::rename(stage.path("research.md"), stage.config.join("shared.md")).unwrap();
    symlink("../shared.md", stage.path("research.md")).unwrap();
    assert_eq!(read_model(&stage.config, MODEL).unwrap_err().code(), "link_shared");
    fs::remove_file(linked).unwrap();
    read_model(&stage.config, MODEL).expect("its own again");
}

#[cfg(unix)]
#[test]
fn nothing_is_written_through_a_link_that_leads_out() {
    use std::os::unix::fs::symlink;
    let outside = tempfile::tempdir().unwrap();
    let untouched = outside.path().join("untouched");
    fs::write(&untouched, "theirs").unwrap();
    let refused = |stage: &Stage| {
        let code = stage.write(&to_version_2()).unwrap_err().code();
        let mut names = fs::read_dir(stage.folder()).unwrap().map(|it| it.unwrap().file_name());
        assert!(!names.any(|name| name.to_string_lossy().starts_with("backup_")), "nothing begun");
        code
    };
    // The model's folder itself, its marker, its lock, and a lock that is not there yet.
    let stage = Stage::empty();
    symlink(outside.path(), stage.folder()).unwrap();
    assert_eq!(refused(&stage), "link_outside");
    for name in [".mathesis.json", ".mathesis.lock"] {
        for target in [untouched.clone(), outside.path().join("new")] {
            let stage = Stage::with_version_1();
            let _ = fs::remove_file(stage.path(name));
            symlink(target, stage.path(name)).unwrap();
            assert_eq!(refused(&stage), "link_outside", "{name}");
        }
    }
    // What a write makes on its way is made anew, never through what lies there.
    let stage = Stage::with_version_1();
    symlink(&untouched, stage.path(".mathesis-tmp-research.md")).unwrap();
    symlink(outside.path(), stage.path(".mathesis-tmp-backup")).unwrap();
    symlink(outside.path(), stage.path("backup_20261122_100000")).unwrap();
    stage.write(&to_version_2()).unwrap();
    assert_eq!(stage.content("research.md"), NEW[1]);
    assert!(stage.path("backup_20261122_100000_2/research.md").is_file());
    let left: Vec<_> =
        fs::read_dir(outside.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!((left.len(), fs::read_to_string(&untouched).unwrap().as_str()), (1, "theirs"));
}

#[cfg(unix)]
#[test]
fn a_replaced_file_keeps_its_mode_and_a_new_folder_is_open_to_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let stage = Stage::with_version_1();
    let private = fs::Permissions::from_mode(0o600);
    fs::set_permissions(stage.path("research.md"), private).unwrap();
    stage.write(&to_version_2()).unwrap();
    assert_eq!(mode(stage.path("research.md")), 0o600);
    assert_eq!(mode(stage.path("backup_20261122_100000/research.md")), 0o600);
    let fresh = Stage::empty();
    write_missing(&fresh.config, MODEL, &to_version_2()).unwrap();
    assert_eq!(mode(fresh.folder()), 0o755);
    assert_eq!(mode(fresh.path("activation.txt")), 0o644);
}

#[test]
fn two_writers_of_one_change_leave_one_backup() {
    let stage = Stage::with_version_1();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| stage.write(&to_version_2()).unwrap());
        }
    });
    assert_eq!(stage.backups(), ["backup_20261122_100000"]);
    assert_eq!(stage.standing(2, NEW), Standing::InStep);
}

/// What an abandoned backup left must not end up in the next one.
#[test]
fn a_half_built_backup_of_another_change_is_swept() {
    let stage = Stage::with_version_1();
    let (_, steps) = Stage::with_version_1().disturbed(Disturbance::None);
    let manifest = steps.iter().position(|step| step == "create temporary for manifest.json");
    let crash = Disturbance::Crash(manifest.unwrap());
    stage.disturbed(crash).0.unwrap_err();
    fs::remove_file(stage.path("research.md")).unwrap();
    stage.write(&change("cycle 8", 3, OLD, NEW)).unwrap();
    assert!(!stage.path("backup_20261122_100000/research.md").exists());
}

/// A finished change explains nothing: after a rollback its texts are a person's if they come back.
#[test]
fn a_version_that_was_rolled_back_and_put_back_by_hand_is_a_conflict() {
    let stage = Stage::with_version_1();
    stage.write(&to_version_2()).unwrap();
    stage.write(&change("rollback", 1, NEW, OLD)).unwrap();
    fs::write(stage.path("activation.txt"), NEW[0]).unwrap();
    let edited = Standing::HandEdited(vec![ConfigFile::Activation]);
    assert_eq!(stage.standing(1, OLD), edited);
    let next = change("cycle 9", 3, OLD, ["three", "# three"]);
    assert_eq!(stage.write(&next).unwrap_err().code(), "hand_edited");
    assert_eq!(stage.content("activation.txt"), NEW[0]);
}
