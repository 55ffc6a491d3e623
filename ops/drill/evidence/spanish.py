"""The pages in Spanish: every text of ours as it is in English, with its translation.

`{}` stands for a value, `{:t}` for one that is a text of ours too, or several with semicolons between them.
"""

from __future__ import annotations

import re
from functools import cache

from ops.drill.evidence.spanish_others import OTHERS

PHRASES = {
    # verdicts and states
    "green": "verde",
    "red": "rojo",
    "passed": "superado",
    "failed": "fallido",
    "skipped": "omitido",
    "not reached": "no alcanzado",
    "caught": "detectado",
    "not seen": "no detectado",
    "equal": "igual",
    "differs": "distinta",
    "nobody": "nadie",
    # headings and labels
    "Restore drill": "Simulacro de restauración",
    "Negative control": "Control negativo",
    "What was proved": "Qué se ha demostrado",
    "what": "qué",
    "data of": "datos del",
    "compared": "comparado",
    "back in": "recuperado en",
    "at most lost": "pérdida máxima",
    "What is wrong": "Qué está mal",
    "Recovery time (RTO)": "Tiempo de recuperación (RTO)",
    "Recovery point (RPO)": "Punto de recuperación (RPO)",
    "measured, from the first byte fetched to the last question about the copy": (
        "medido, desde el primer byte descargado hasta la última pregunta sobre la copia"
    ),
    "measured, by the age of the canary row in the copy": "medido, por la edad de la fila canario en la copia",
    "computed, the age of the newest snapshot when the drill began": (
        "calculado, la edad de la instantánea más reciente al empezar el simulacro"
    ),
    "budget": "límite",
    "The drills before": "Los simulacros anteriores",
    "Where the time went": "En qué se fue el tiempo",
    "Profile": "Perfil",
    "What runs at once (fetch and decrypt, load and index) shares a stretch, divided as the workers' own time was.": (
        "Lo que ocurre a la vez (descargar y descifrar, cargar e indexar) comparte un tramo, repartido según el tiempo "
        "propio de cada parte."
    ),
    "Questions and answers": "Preguntas y respuestas",
    "Tables: the snapshot and the copy": "Tablas: la instantánea y la copia",
    "tables": "tablas",
    "table": "tabla",
    "rows in the snapshot": "filas en la instantánea",
    "rows in the copy": "filas en la copia",
    "content hash": "hash del contenido",
    "Not compared": "Sin comparar",
    "The backup": "La copia de seguridad",
    "backup": "copia",
    "named": "elegida por nombre",
    "latest": "la más reciente",
    "random": "al azar",
    "oldest-unverified": "la más antigua sin verificar",
    "store": "almacén",
    "snapshot": "instantánea",
    "size": "tamaño",
    "objects": "objetos",
    "rows": "filas",
    "files": "archivos",
    "by hand": "a mano",
    "RESTORE.md in the backup's own folder says how to restore it with stock tools": (
        "RESTORE.md, en la carpeta de la copia, explica cómo restaurarla con herramientas estándar"
    ),
    "scratch server": "servidor de pruebas",
    "source server": "servidor de origen",
    "machine": "máquina",
    "manifest": "manifiesto",
    "Damaged on purpose": "Dañado a propósito",
    "A drill that cannot fail proves nothing. Each copy below was made wrong in one way, and the check that is there "
    "for it had to turn red.": (
        "Un simulacro que no puede fallar no demuestra nada. Cada copia de esta lista se dañó de una manera, y la "
        "comprobación correspondiente tenía que ponerse en rojo."
    ),
    "The evidence": "Las pruebas",
    "documents": "documentos",
    "of the chain of": "de la cadena de",
    "signed by": "firmado por",
    "runner": "ejecutado en",
    "verify it": "verificar",
    "in this folder's place: one changed character, here or there, is named": (
        "donde está esta carpeta: señala cualquier carácter cambiado, aquí o en los documentos"
    ),
    "a new folder on this machine": "una carpeta nueva en esta máquina",
    "read from the packs, without an S3 server": "leído de los paquetes, sin servidor S3",
    "metadata and ACLs: they are in the manifest; `ops restore` compares them in the new bucket": (
        "metadatos y permisos: están en el manifiesto; `ops restore` los compara en el bucket nuevo"
    ),
    "owners of files: only root may give them": "dueños de archivos: solo root puede darlos",
    "{}: materialized view, filled anew by a restore": "{}: vista materializada, la restauración la llena de nuevo",
    "{}: rows left out by the stack file": "{}: filas excluidas por el archivo de la pila",
    "{}: foreign table, its rows are elsewhere": "{}: tabla foránea, sus filas están en otro sitio",
    "event trigger {}: it needs a superuser, and would fire meanwhile": (
        "disparador de eventos {}: exige un superusuario, y se dispararía mientras tanto"
    ),
    "subscription {}: its copy would take over the slot": "suscripción {}: su copia se quedaría con la ranura",
    "tablespace {} of the database itself: a copy is in the default one of its server": (
        "tablespace {} de la propia base de datos: una copia está en el predeterminado de su servidor"
    ),
    "tablespaces {}: the scratch server has its default one": (
        "tablespaces {}: el servidor de pruebas tiene el predeterminado"
    ),
    "owner {} of the database, and its limit of connections: the scratch one is the drill's": (
        "dueño {} de la base de datos y su límite de conexiones: la de pruebas es del simulacro"
    ),
    "options of role {} in the database: the scratch server has no such role": (
        "opciones del rol {} en la base de datos: el servidor de pruebas no tiene ese rol"
    ),
    "publication {}: not restored, some are a superuser's to make": (
        "publicación {}: no se restaura, algunas solo las crea un superusuario"
    ),
    "grants on {}: not restored, it is PostgreSQL's own or an extension's": (
        "permisos de {}: no se restauran, es de PostgreSQL o de una extensión"
    ),
    "option {}: {}": "opción {}: {}",
    "of role {}: option {}: {}": "del rol {}: opción {}: {}",
    "locale: the server here has no {}, only {}": "localización: este servidor no tiene {}, solo {}",
    "locale: the server here has no {}; the copy has C": "localización: este servidor no tiene {}; la copia tiene C",
    # phases
    "fetch": "descargar",
    "decrypt, decompress": "descifrar, descomprimir",
    "start scratch server": "arrancar el servidor",
    "load": "cargar datos",
    "index": "índices",
    "check": "comprobar",
    # questions
    "Is there a complete backup, and is its manifest the one that was written?": (
        "¿Hay una copia completa, y su manifiesto es el que se escribió?"
    ),
    "Did this environment make it? Is its manifest signed by the environment's key?": (
        "¿La hizo este entorno? ¿Su manifiesto está firmado con la clave del entorno?"
    ),
    "Is the newest backup young enough?": "¿La copia más nueva es lo bastante reciente?",
    "Is every object there, of its size?": "¿Están todos los objetos, con su tamaño?",
    "Does the key that is kept for a bad day open it?": "¿La abre la clave que se guarda para un mal día?",
    "Is every byte the byte that was written?": "¿Es cada byte el que se escribió?",
    "Is there anything in it at all?": "¿Contiene algo?",
    "Does it restore?": "¿Se restaura?",
    "Is the copy equal to the snapshot: rows, content, everything that was counted?": (
        "¿La copia es igual a la instantánea: filas, contenido y todo lo contado?"
    ),
    "Are all constraints validated and all indexes valid?": "¿Están validadas las restricciones y los índices?",
    "Is all true that the app says of its data?": "¿Se cumple lo que la aplicación afirma de sus datos?",
    "Is the scratch server a new one, and so no live one?": (
        "¿El servidor de pruebas es nuevo, y por tanto ninguno de producción?"
    ),
    "Would no more be lost than the recovery point objective allows?": (
        "¿Se perdería como mucho lo que permite el punto de recuperación?"
    ),
    "Was it back within the recovery time objective?": "¿Se recuperó dentro del tiempo objetivo?",
    "Is the scratch gone, or kept on purpose?": "¿Se ha eliminado lo temporal, o se conserva a propósito?",
    # answers
    "no backup that can be trusted": "ninguna copia de la que fiarse",
    "{}, manifest {}…": "{}, manifiesto {}…",
    "rewritten: an earlier drill has seen manifest {}…, it is {}… now": (
        "reescrita: un simulacro anterior vio el manifiesto {}…, ahora es {}…"
    ),
    "signed by {}": "firmado por {}",
    "the manifest is not signed": "el manifiesto no está firmado",
    "the manifest is not signed by {}, but by {}": "el manifiesto no está firmado por {}, sino por {}",
    "{} h old, budget {} h": "{} h de antigüedad, límite {} h",
    "it is dated {} h in the future: a clock or the manifest is wrong": (
        "tiene fecha de {} h en el futuro: un reloj o el manifiesto está mal"
    ),
    "what it is counted from is {} h in the future: a clock is wrong": (
        "aquello desde lo que se cuenta está {} h en el futuro: un reloj está mal"
    ),
    "{} of {} objects are not right": "{} de {} objetos no están bien",
    "{} of {} objects stay closed": "{} de {} objetos siguen cerrados",
    "{} objects": "{} objetos",
    "for {} recipients": "para {} destinatarios",
    "{} bytes, SHA-256 as stored and as dumped": "{} bytes, SHA-256 de lo almacenado y de lo volcado",
    "{} rows": "{} filas",
    "none, as was said": "nada, como se dijo",
    "no row in any table; say --may-be-empty if that is right": (
        "ninguna fila en ninguna tabla; con --may-be-empty si es correcto"
    ),
    "the restore failed": "la restauración ha fallado",
    "pg_restore {}, no error": "pg_restore {}, sin errores",
    "{} differences": "{} diferencias",
    "{} tables, {} rows, {} sequences": "{} tablas, {} filas, {} secuencias",
    "no error": "sin errores",
    "{} tables, {} rows, quick_check ok": "{} tablas, {} filas, quick_check correcto",
    "{} files with {} names: modes, owners and the keyed fingerprint of all contents": (
        "{} archivos con {} nombres: permisos, dueños y la huella con clave de todo el contenido"
    ),
    "every object is in its pack, of {} backups": "cada objeto está en su paquete, de {} copias",
    "{} objects, {} bytes: sizes and SHA-256": "{} objetos, {} bytes: tamaños y SHA-256",
    "{} are not": "{} no lo están",
    "all of them": "todos",
    "{} of {} are not true": "{} de {} no se cumplen",
    "{} are true": "{} se cumplen",
    "{}, made {} UTC": "{}, creado el {} UTC",
    "{} h, computed, budget {} h": "{} h, calculado, límite {} h",
    "{} h, measured, budget {} h": "{} h, medido, límite {} h",
    "{} s, budget {} min": "{} s, límite {} min",
    "kept for {} h, because the drill is red": "se conserva {} h, porque el simulacro está en rojo",
    "something is left": "queda algo",
    "removed": "eliminado",
    # what is wrong
    "the backup holds no row": "la copia no contiene ninguna fila",
    "backup {}: the manifest is not signed": "copia {}: el manifiesto no está firmado",
    "backup {} was rewritten: an earlier drill has seen manifest {}…, it is {}… now": (
        "copia {}: reescrita: un simulacro anterior vio el manifiesto {}…, ahora es {}…"
    ),
    "backup {}: the manifest is not signed by {}, but by {}": (
        "copia {}: el manifiesto no está firmado por {}, sino por {}"
    ),
    "backup {} is too old: {}": "la copia {} es demasiado antigua: {:t}",
    "backup {}: it is dated {} h in the future: a clock or the manifest is wrong, and newer ones may be hidden by it": (
        "copia {}: tiene fecha de {} h en el futuro: un reloj o el manifiesto está mal, y puede tapar otras más nuevas"
    ),
    "server {} is older than the drill: nothing was restored into it": (
        "el servidor {} es más antiguo que el simulacro: no se restauró nada en él"
    ),
    "constraint {} is not validated": "la restricción {} no está validada",
    "index {} is not valid": "el índice {} no es válido",
    "{} days": "{} días",
    "{} s": "{} s",
    "{} KiB": "{} KiB",
    "{} MiB": "{} MiB",
    "{} GiB": "{} GiB",
    "{} TiB": "{} TiB",
    "{} h": "{} h",
    # damage
    "one bit of one object is flipped": "un bit de un objeto está invertido",
    "one object has lost its second half": "un objeto ha perdido su segunda mitad",
    "one object is missing": "falta un objeto",
    "the manifest was edited after it was sealed": "el manifiesto se editó después de sellarlo",
    "the manifest was sealed anew and signed by another key": (
        "el manifiesto se selló de nuevo y se firmó con otra clave"
    ),
    "the manifest, sealed anew, remembers other content than there was": (
        "el manifiesto, sellado de nuevo, recuerda otro contenido"
    ),
    "the snapshot is older than the budget": "la instantánea es más antigua que el límite",
    "the drill has another key than those it was encrypted for": "el simulacro tiene otra clave que las del cifrado",
    **OTHERS,
}

_DECIMAL = re.compile(r"(\d)\.(\d+ (?:h|s|min|días|KiB|MiB|GiB|TiB|dólares)\b)")
"""A number with its unit, and no version."""


def translate(text: str) -> str:
    """Return the Spanish of a text; what programs said, and names, stay as they are."""
    if text in PHRASES:
        return PHRASES[text]
    for pattern, spanish in _patterns():
        match = pattern.fullmatch(text)
        if match:
            return _DECIMAL.sub(r"\1,\2", spanish.format(*map(_Value, match.groups())))
    return text


class _Value(str):
    """What stands for `{}`; as `{:t}` it is translated."""

    __slots__ = ()

    def __format__(self, spec: str, /) -> str:
        if not spec:
            return str(self)
        whole = translate(self)
        return whole if whole != self else "; ".join(map(translate, self.split("; ")))


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """Return those with values, the longest first: `{} h old` before `{}`. A number at the beginning has no space."""
    templates = sorted((text for text in PHRASES if "{}" in text), key=len, reverse=True)
    found: list[tuple[re.Pattern[str], str]] = []
    for text in templates:
        first, *rest = map(re.escape, text.split("{}"))
        value = r"(\S+)" if text.startswith("{} ") else "(.+?)"
        found.append((re.compile(first + value + "(.+?)".join(rest)), PHRASES[text]))
    return found
