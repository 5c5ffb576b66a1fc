"""Installs a file that pyproject.toml can't describe.

`zz_aqltelemetry.pth` is installed next to the package. Python runs it at each start, after the
other `.pth` files, so that all packages can be imported. In the processes of `aqltelemetry run`
it starts the recording, whether or not another `sitecustomize` comes first.
"""

import os

from setuptools import setup
from setuptools.command.build_py import build_py

_SOURCE = os.path.join("aqltelemetry", "autostart", "zz_aqltelemetry.pth")
_NAME = "zz_aqltelemetry.pth"


class _BuildWithStart(build_py):
    def run(self) -> None:
        super().run()
        # An editable installation has no build directory.
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
