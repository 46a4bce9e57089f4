"""Prints the licence of each package that is installed beside it, with the texts that it brings."""

from importlib.metadata import Distribution, distributions

LINE = "=" * 100


def licence(package: Distribution) -> str:
    """Return its licence in a word, as its author wrote it, or what its classifiers say."""
    about = package.metadata
    classified = [one.rpartition(" :: ")[2] for one in about.get_all("Classifier") or [] if one.startswith("License")]
    return about["License-Expression"] or ", ".join(classified) or (about["License"] or "not said").splitlines()[0]


def texts(package: Distribution) -> list[str]:
    """Return the texts of its licences and notices."""
    names = ("license", "licence", "copying", "notice")
    files = [file for file in package.files or [] if file.name.lower().startswith(names) and ".dist-info" in str(file)]
    return [file.locate().read_text(errors="replace") for file in files if file.locate().is_file()]


def main() -> None:
    packages = sorted(distributions(), key=lambda package: package.metadata["Name"].lower())
    for package in packages:
        print(f"{package.metadata['Name']} {package.version}: {licence(package)}")
    for package in packages:
        for text in texts(package):
            print(f"\n{LINE}\n{package.metadata['Name']} {package.version}\n{LINE}\n{text}")


if __name__ == "__main__":
    main()
