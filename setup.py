"""Adds to what pyproject.toml says a file that it can't name.

`zz_aqltelemetry.pth` lies beside the package, where Python runs it at each start, last of its
kind, so that all packages can be imported: below
`aqltelemetry run` it starts the recording, whichever `sitecustomize` comes first.
"""

import os

from setuptools import setup
from setuptools.command.build_py import build_py

_SOURCE = os.path.join("aqltelemetry", "autostart", "zz_aqltelemetry.pth")
_NAME = "zz_aqltelemetry.pth"


class _BuildWithStart(build_py):
    def run(self) -> None:
        super().run()
        # What is editable has no build directory, but goes right into the wheel.
        install = self.get_finalized_command("install")
        target = install.install_purelib if self.editable_mode else self.build_lib
        self.mkpath(target)
        self.copy_file(_SOURCE, os.path.join(target, _NAME))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        outputs = super().get_outputs(include_bytecode)
        return outputs if self.editable_mode else [*outputs, os.path.join(self.build_lib, _NAME)]

    def get_source_files(self) -> list[str]:
        return [*super().get_source_files(), _SOURCE]


setup(cmdclass={"build_py": _BuildWithStart})
