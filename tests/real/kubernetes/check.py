"""Checks manifests against schemas. Comes in: JSON on stdin,
{"versions": ["1.28", …], "files": [PATH, …], "crds": DIR, "compose": [SCHEMA, FILE] or null}.
Goes out: JSON on stdout, {"checked": number of (object, version), "faults": [TEXT, …]}.
What has no schema is a fault: nothing passes unread.
"""
import json
import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml

asked = json.load(sys.stdin)
checked, faults = 0, []


def strict(schema):
    """A schema of a CRD that knows its keys allows no others, as the API server would drop them."""
    if isinstance(schema, dict):
        if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        if schema.pop("x-kubernetes-int-or-string", False):
            schema.pop("type", None)
        for value in schema.values():
            strict(value)
    elif isinstance(schema, list):
        for value in schema:
            strict(value)
    return schema


def resource_schemas(directory):
    found = {}
    for path in pathlib.Path(directory).glob("*.yaml"):
        crd = yaml.safe_load(path.read_text())
        for version in crd["spec"]["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            found[(crd["spec"]["group"] + "/" + version["name"], crd["spec"]["names"]["kind"])] = schema
    return found


schemas = resource_schemas(asked["crds"])
for name in asked["files"]:
    for document in yaml.safe_load_all(pathlib.Path(name).read_text()):
        if document is None:
            continue
        what = f"{name}: {document.get('kind')} {document.get('metadata', {}).get('name')}"
        schema = schemas.get((document.get("apiVersion"), document.get("kind")))
        for version in ["operator"] if schema else asked["versions"]:
            try:
                if schema:
                    jsonschema.validators.Draft202012Validator(schema).validate(document)
                else:
                    used = kubernetes_validate.validate(document, version, strict=True)
                    assert used == version, f"no schemas for {version}"
                checked += 1
            except jsonschema.ValidationError as error:
                faults.append(f"{what} ({version}): at {'/'.join(map(str, error.absolute_path))}: {error.message[:300]}")
            except kubernetes_validate.SchemaNotFoundError as error:
                faults.append(f"{what} ({version}): {error.message}")

if asked.get("compose"):
    schema, name = asked["compose"]
    document = yaml.safe_load(pathlib.Path(name).read_text())
    validator = jsonschema.validators.validator_for(json.loads(pathlib.Path(schema).read_text()))
    for error in validator(json.loads(pathlib.Path(schema).read_text())).iter_errors(document):
        faults.append(f"{name}: at {'/'.join(map(str, error.absolute_path))}: {error.message[:300]}")
    checked += 1

json.dump({"checked": checked, "faults": faults}, sys.stdout)
