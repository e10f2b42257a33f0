import pytest
from helpers.networks import MAKERS, TOLD, save

from fastnst.cli import main
from fastnst.config import ImportOptions
from fastnst.foreign.convert import import_model


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Family -> the original network, its file, and the checkpoint that was imported from it; made once."""
    made = {}

    def of(family):
        if family not in made:
            folder = tmp_path_factory.mktemp("foreign")
            net = MAKERS[family][0]()
            source = save(family, net, folder)
            options = ImportOptions(family=family if family in TOLD else None)
            imported = import_model(source, folder / "style.safetensors", options)
            assert imported.family == family
            made[family] = net, source, imported.path
        return made[family]

    return of


@pytest.fixture
def run(capsys):
    """Run a command line, and return exit status, standard output and standard error."""

    def run(*words):
        status = main([str(word) for word in words])
        return (status, *capsys.readouterr())

    return run
