"""The wheel of causeway_translation: `make wheel` puts the shared object into the package first."""
import os

from setuptools import setup
from wheel.bdist_wheel import bdist_wheel


class PlatformWheel(bdist_wheel):
    """Any Python 3, but this machine's processor: the shared object has no Python in it."""

    def finalize_options(self):
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


setup(
    name="causeway-translation",
    version=os.environ["CAUSEWAY_VERSION"],
    description="Where a Xen domain's pages are, and how a device reaches them",
    license="Apache-2.0",
    python_requires=">=3.9",
    packages=["causeway_translation"],
    package_data={"causeway_translation": ["libcauseway-translation.so.1"]},
    cmdclass={"bdist_wheel": PlatformWheel},
)
