"""What the pages of drills of others' backups say beside it, in Spanish; see `ops.drill.evidence.spanish`."""

from __future__ import annotations

OTHERS = {
    # headings and labels
    "Drill of pgBackRest's backup: {}": "Simulacro de la copia de pgBackRest: {}",
    "Drill of the provider's backup: {}": "Simulacro de la copia del proveedor: {}",
    "pgBackRest's backup and its WAL, restored by pgBackRest into a scratch server and read to the last row": (
        "la copia de pgBackRest y su WAL, restaurados por pgBackRest en un servidor de pruebas y leídos hasta la "
        "última fila"
    ),
    "the provider's own backup of the cluster, restored by the provider; not a backup of ours": (
        "la copia que el proveedor hace del clúster, restaurada por él; no una copia nuestra"
    ),
    "measured, until the last table was read": "medido, hasta leer la última tabla",
    "no budget is set": "sin límite fijado",
    "What was read to its last row": "Qué se ha leído hasta la última fila",
    "database": "base de datos",
    "The backup and the copy": "La copia de seguridad y lo restaurado",
    # phases
    "restore": "restaurar",
    "replay": "aplicar el WAL",
    "fork": "bifurcación",
    "wait": "esperar",
    "reach": "conectar",
    "destroy": "destruir",
    # facts
    "ended at": "terminada",
    "asked for": "momento pedido",
    "last transaction": "última transacción",
    "server": "servidor",
    "cluster": "clúster",
    "newest restore point": "punto de restauración más reciente",
    "oldest restore point": "punto de restauración más antiguo",
    "online after": "en línea tras",
    "cost": "coste",
    "the latest": "el último",
    "{} ({}), repository {}": "{} ({}), repositorio {}",
    "{}, {} stored": "{}, {} almacenados",
    "{}, budget {} h": "{}, límite {} h",
    "at most {} US dollars, limit {}": "como mucho {} dólares, límite {} dólares",
    # questions about pgBackRest's
    "Is there a backup that counts, young enough?": "¿Hay una copia que cuente, y lo bastante reciente?",
    "Did pgBackRest give every file back, with its checksum?": (
        "¿Devolvió pgBackRest cada archivo, con su suma de verificación?"
    ),
    "Did the server replay its WAL to the end that was asked for, and open?": (
        "¿Aplicó el servidor su WAL hasta el final pedido, y se abrió?"
    ),
    "Is it the server of the stanza, on a timeline of its own?": (
        "¿Es el servidor de la stanza, en una línea de tiempo propia?"
    ),
    "Is nothing in it later than the asked time?": "¿No contiene nada posterior al momento pedido?",
    "Is every database readable to the last row?": "¿Se lee cada base de datos hasta la última fila?",
    "Does pg_amcheck find heap and B-tree indexes in order?": (
        "¿Encuentra pg_amcheck en orden las tablas (heap) y los índices B-tree?"
    ),
    "Was it back within the budget?": "¿Se recuperó dentro del límite?",
    "Is the scratch server stopped and its folder gone?": "¿Se ha parado el servidor de pruebas y borrado su carpeta?",
    # answers about pgBackRest's
    "the newest complete backup of {} in {} is {} old, the budget is {}": (
        "la copia terminada más reciente de {} en {} tiene {}, el límite es {}"
    ),
    "the newest complete backup of {} in {} is {} old, the budget is {} ({})": (
        "la copia terminada más reciente de {} en {} tiene {}, el límite es {} ({:t})"
    ),
    "{} has no complete backup of {}": "{} no tiene ninguna copia terminada de {}",
    "{} has no complete backup of {} ({})": "{} no tiene ninguna copia terminada de {} ({:t})",
    "{} is of an earlier server of this stanza": "{} es de un servidor anterior de esta stanza",
    "{} has pages with wrong checksums: the server's files were damaged": (
        "{} tiene páginas con sumas erróneas: los archivos del servidor estaban dañados"
    ),
    "{} is of the future: {} UTC": "{} es del futuro: {} UTC",
    "{}, the last transaction of {} UTC": "{:t}; la última transacción es del {} UTC",
    "no recovery target specified": "sin objetivo de recuperación",
    "before {}": "hasta antes de {}",
    "after {}": "hasta después de {}",
    "no history": "sin historial",
    "no reason given": "sin motivo indicado",
    "system {}, timeline {} from {}": "sistema {}, línea de tiempo {} a partir de la {}",
    "the latest was asked for": "se pidió lo último",
    "nothing after {} UTC": "nada posterior al {} UTC",
    "{} databases, {} tables, each to its last row": "{} bases de datos, {} tablas, cada una hasta la última fila",
    "pg_amcheck {}, every heap and index": "pg_amcheck {}, todas las tablas (heap) y todos los índices",
    "the extension is not installed here: {}": "la extensión no está instalada aquí: {}",
    "{}: {}, the server is PostgreSQL {}; run {} (from apt.postgresql.org where the system has no such package)": (
        "{}: {:t}, el servidor es PostgreSQL {}; ejecutar {} (de apt.postgresql.org si el sistema no tiene ese paquete)"
    ),
    "not found": "no se encuentra",
    "found {}": "hay {}",
    "no budget was given": "no se dio ningún límite",
    "{} s, budget {} s": "{} s, límite {} s",
    "both": "ambas cosas",
    # what is wrong with pgBackRest's
    "pgbackrest restore of {}: {} (exit {}); {}": "pgbackrest restore de {}: {} (código {}); {:t}",
    "no end of recovery after {} s: {}": "la recuperación no terminó en {} s: {}",
    "it is system {}, the stanza's is {}": "es el sistema {}, el de la stanza es {}",
    "timeline {} has no parent: nothing was recovered": "la línea de tiempo {} no tiene origen: no se recuperó nada",
    "a transaction of {} UTC is in it": "contiene una transacción del {} UTC",
    "exit {}": "código de salida {}",
    "{}: is left; remove it": "{}: ha quedado; hay que borrarla",
    # questions about the provider's
    "Does the provider list restore points, the newest one young enough?": (
        "¿Ofrece el proveedor puntos de restauración, y es el último lo bastante reciente?"
    ),
    "Did the provider make a cluster of it in time?": "¿Creó el proveedor a tiempo un clúster con esos datos?",
    "May only the stack's own droplets reach it?": "¿Solo pueden llegar a él los droplets del propio stack?",
    "Is it the data of this very cluster, recovered into another server?": (
        "¿Son los datos de este mismo clúster, recuperados en otro servidor?"
    ),
    "Is every database of the stack in it, readable to the last row?": (
        "¿Están todas las bases de datos del stack, legibles hasta la última fila?"
    ),
    "Are tables, columns, constraints and indexes those of the live databases?": (
        "¿Son las tablas, columnas, restricciones e índices los de producción?"
    ),
    "Are all constraints validated and all indexes valid, as in the live databases?": (
        "¿Están validadas las restricciones y los índices, como en producción?"
    ),
    "Is the fork destroyed?": "¿Se ha destruido la bifurcación?",
    # answers about the provider's
    "{}, the newest {} h old, budget {} h": "{}, el más reciente de hace {} h, límite {} h",
    "{} s, at most {} min": "{} s, como mucho {} min",
    "it is gone: somebody destroyed it": "ya no está: alguien lo ha destruido",
    "still {} after {} s": "sigue en estado {} a los {} s",
    "to droplet {} alone": "solo el droplet {}",
    "system {}, timeline {}, live on {}": "sistema {}, línea de tiempo {}, producción en la {}",
    "they could not all be asked": "no se pudo consultar a todas",
    "{} databases, {} tables, each read to its last row": (
        "{} bases de datos, {} tablas, cada una leída hasta la última fila"
    ),
    "the same": "los mismos",
    "{} differ": "{} difieren",
    "{} differ, as was said": "{} difieren, como se dijo",
    "destroyed": "destruida",
    "there was none": "no había ninguna",
    # what is wrong with the provider's
    "it is the live server itself: a lock that was taken there is seen here": (
        "es el propio servidor de producción: aquí se ve un bloqueo que se tomó allí"
    ),
    "it is another system ({}) than the live one ({})": "es otro sistema ({}) que el de producción ({})",
    "it is on timeline 1: it was not recovered from a backup": (
        "está en la línea de tiempo 1: no se recuperó de una copia"
    ),
    "{}: live, and not in the fork": "{}: está en producción y no en la bifurcación",
    "{}: in the fork, and not live any more": "{}: está en la bifurcación y ya no en producción",
    "{}: defined otherwise": "{}: definido de otra manera",
    "{}: {} may not read {}": "{}: {} no puede leer {}",
    "{}: constraint {} is not validated": "{}: la restricción {} no está validada",
    "{}: index {} is not valid": "{}: el índice {} no es válido",
    # what to do after an exit code of pgbackrest
    "its log file says more": "su archivo de log dice más",
    "a file of the repository is damaged: `ops backrest verify` names it; make a full backup": (
        "un archivo del repositorio está dañado: `ops backrest verify` dice cuál; hay que hacer una copia full"
    ),
    "the stanza is of another server, or its files are damaged: `pgbackrest stanza-upgrade` after a major upgrade": (
        "la stanza es de otro servidor, o sus archivos están mal: `pgbackrest stanza-upgrade` tras cambiar de versión"
    ),
    "one of its processes stopped; its log says why": "uno de sus procesos se paró; su log dice por qué",
    "a file cannot be opened: is it the server's account that runs this?": (
        "un archivo no se puede abrir: ¿se ejecuta con la cuenta del servidor?"
    ),
    "the archive is of another server: `pgbackrest stanza-upgrade` after a major upgrade": (
        "el archivado de WAL es de otro servidor: `pgbackrest stanza-upgrade` tras cambiar de versión"
    ),
    "another WAL segment of that name is in the archive: do two servers write to one stanza?": (
        "hay otro segmento de WAL con ese nombre: ¿escriben dos servidores en una misma stanza?"
    ),
    "the stanza is of another server: `pgbackrest stanza-upgrade` after a major upgrade": (
        "la stanza es de otro servidor: `pgbackrest stanza-upgrade` tras cambiar de versión"
    ),
    "no such stanza in the repository, or a file is missing: `pgbackrest --stanza=… stanza-create`": (
        "esa stanza no está en el repositorio, o falta un archivo: `pgbackrest --stanza=… stanza-create`"
    ),
    "a folder is missing: see to pg1-path and repo1-path": "falta una carpeta: revisar pg1-path y repo1-path",
    "that backup is not there any more; `ops backrest info` lists them": (
        "esa copia ya no está; `ops backrest info` las lista"
    ),
    "see to repo1-cipher-pass: it is not the repository's": "revisar repo1-cipher-pass: no es la del repositorio",
}
