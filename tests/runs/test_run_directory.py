"""What a run may delete and replace in its output, and the lock that keeps others out of it."""

import errno
import fcntl
import multiprocessing
import os
import shutil
import threading
from argparse import Namespace
from contextlib import closing

import pytest

from common.console import UserError
from runs import lock, run_directory
from runs.lock import OutputTaken, acquire
from runs.run_directory import check_new_lists, check_output, claim, new_lists_of, open_output


def options_of(output, **others):
    values = dict.fromkeys(('resume', 'overwrite'), False)
    values.update(dict.fromkeys(('model', 'train_list', 'val_list', 'test_list')), output=output)
    return Namespace(**{**values, **others})


def write(folder, **texts):
    """Lists in `folder`, by their names without suffix."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f'{name}.txt').write_text(text)


def contents(folder):
    paths = sorted(path for path in folder.rglob('*') if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def begin(output, **texts):
    """A run on new lists, up to its first checkpoint."""
    write(new_lists_of(output), **texts)
    check_new_lists(output)
    claim(options_of(output, train_list=str(new_lists_of(output) / 'train.txt')))
    (output / 'checkpoints').mkdir(exist_ok=True)
    (output / 'checkpoints' / 'iteration_00000000.safetensors').write_bytes(b'a')
    (output / 'log.csv').write_text('epoch')


@pytest.fixture
def output(tmp_path):
    return tmp_path / 'run'


class TestLists:
    def test_new_ones_take_the_place_of_the_earlier_runs(self, output):
        begin(output, train='a 0\n', test='b 0\n', classes='x\n')
        write(new_lists_of(output), train='c 0\n', classes='x\n')
        check_new_lists(output)
        now = options_of(output, train_list=str(new_lists_of(output) / 'train.txt'))
        claim(now)
        assert now.train_list == str(output / 'lists' / 'train.txt')
        lists_ = {'classes.txt': b'x\n', 'train.txt': b'c 0\n'}
        assert contents(output / 'lists') == lists_
        assert sorted(os.listdir(output)) == ['.claimed.json', 'lists']

    def test_somebodys_own_are_not_replaced(self, output):
        write(output / 'lists', train='mine 0\n')
        write(new_lists_of(output), train='c 0\n')
        with pytest.raises(UserError, match='is not as a run wrote it; to train on it'):
            check_new_lists(output)

    def test_those_that_somebody_edited_are_not_replaced(self, output):
        begin(output, train='a 0\n')
        write(output / 'lists', train='a 0\nmine 0\n')
        write(new_lists_of(output), train='a 0\n')
        with pytest.raises(UserError, match='is not as a run wrote it'):
            check_new_lists(output)
        shutil.rmtree(new_lists_of(output))
        claim(options_of(output, train_list='elsewhere.txt'))
        assert contents(output / 'lists') == {'train.txt': b'a 0\nmine 0\n'}

    def test_somebodys_that_are_the_same_stay_theirs(self, output):
        write(output / 'lists', train='a 0\n')
        begin(output, train='a 0\n')
        claim(options_of(output, train_list='elsewhere.txt'))
        assert contents(output / 'lists') == {'train.txt': b'a 0\n'}

    def test_those_that_the_new_run_reads_stay(self, output):
        begin(output, train='a 0\n', val='b 0\n')
        claim(options_of(output, train_list=str(output / 'lists' / 'train.txt')))
        assert contents(output / 'lists') == {'train.txt': b'a 0\n', 'val.txt': b'b 0\n'}
        claim(options_of(output, train_list='elsewhere.txt'))
        assert not (output / 'lists').exists()

    def test_a_link_to_other_lists_is_not_followed(self, output, tmp_path):
        write(tmp_path / 'mine', train='mine 0\n')
        begin(output)
        (output / 'lists').symlink_to(tmp_path / 'mine')
        new_lists_of(output).symlink_to(tmp_path / 'mine')
        with closing(open_output(options_of(output, overwrite=True))):
            write(new_lists_of(output), train='c 0\n')
            with pytest.raises(UserError, match='lists: is a link'):
                check_new_lists(output)
        assert contents(tmp_path / 'mine') == {'train.txt': b'mine 0\n'}


class TestFilesOfOthers:
    @pytest.mark.parametrize('flags', [{}, {'overwrite': True}])
    def test_a_run_does_not_begin_where_it_would_replace_them(self, output, flags):
        output.mkdir()
        (output / 'log.csv').write_text('mine')
        with pytest.raises(UserError, match=r'log\.csv: is there already, and a run would replace'):
            open_output(options_of(output, **flags))
        assert contents(output) == {'log.csv': b'mine'}

    def test_overwrite_does_not_follow_a_link(self, output, tmp_path):
        begin(output, train='a 0\n')
        (tmp_path / 'mine').mkdir()
        (tmp_path / 'mine' / 'model.safetensors').write_bytes(b'mine')
        (output / 'best').symlink_to(tmp_path / 'mine')
        with pytest.raises(UserError, match='best: is a link, and --overwrite deletes nothing'):
            check_output(options_of(output, overwrite=True))

    def test_a_file_in_the_place_of_a_folder_is_noticed_before_anything_is_deleted(self, output):
        begin(output, train='a 0\n')
        (output / 'report').write_text('mine')
        with pytest.raises(NotADirectoryError):
            check_output(options_of(output, overwrite=True))

    def test_a_run_without_checkpoints_is_one(self, output):
        begin(output, train='a 0\n')
        shutil.rmtree(output / 'checkpoints')
        with pytest.raises(UserError, match='holds a run already: --overwrite starts anew'):
            check_output(options_of(output))


def hold(inherited, connection):
    """A trainer: holds the lock until it is told to end."""
    connection.send('ready')
    connection.recv()


class TestLock:
    def test_it_is_held_by_every_process_that_has_it(self, output):
        context = multiprocessing.get_context('spawn')
        ours, theirs = context.Pipe()
        held = acquire(output)
        process = context.Process(target=hold, args=(held, theirs))
        process.start()
        assert ours.recv() == 'ready'
        held.close()  # as the end of its process does
        with pytest.raises(OutputTaken, match='another run is writing here'):
            acquire(output, seconds=0)
        ours.send('end')
        process.join()
        acquire(output).close()

    def test_it_is_waited_for(self, output):
        held = acquire(output)
        begin(output)
        threading.Timer(0.3, held.close).start()
        with pytest.raises(OutputTaken):
            acquire(output, seconds=0)
        acquire(output, seconds=60).close()

    @pytest.mark.parametrize('number', [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
    def test_without_locks_the_run_goes_on_and_says_so(self, output, number, monkeypatch, capsys):
        def flock(_file, _operation):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(lock.fcntl, 'flock', flock)
        with closing(acquire(output)) as held:
            held.check()
        assert f'this file system has no locks ({os.strerror(number)})' in capsys.readouterr().err

    def test_what_is_no_file_is_refused_at_once(self, output):
        output.mkdir()
        os.mkfifo(output / '.lock')
        with pytest.raises(OSError, match='is not a regular file'):
            acquire(output)

    @pytest.mark.parametrize('again', [False, True])
    def test_a_directory_that_was_deleted_is_not_written_to(self, output, again):
        with closing(acquire(output)) as held:
            held.check()
            shutil.rmtree(output)
            other = acquire(output) if again else None
            with pytest.raises(UserError, match='was deleted or replaced while the run went on'):
                held.check()
            if other:
                other.close()

    def test_a_run_that_does_not_begin_leaves_nothing(self, tmp_path):
        run_directory.release(acquire(tmp_path / 'new' / 'run'))
        assert not list(tmp_path.iterdir())
        (tmp_path / 'mine').mkdir()
        run_directory.release(acquire(tmp_path / 'mine'))
        assert (tmp_path / 'mine').is_dir()

    def test_a_refused_command_has_replaced_no_list(self, output):
        begin(output, train='a 0\n')
        with open(output / '.lock', 'w') as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            before = contents(output)
            with pytest.raises(OutputTaken):
                open_output(options_of(output, overwrite=True))
            assert contents(output) == before
