from __future__ import annotations

from ops.backup import catalog
from ops.backup.run import BackupJob, create
from ops.restore import RestoreJob, run


def job(source, *stores, spool=None):
    return BackupJob(environment="staging", project="test", database="shop", source=source, stores=stores, spool=spool)


def silent(text):
    pass


def test_a_backup_restores_into_a_new_database_with_every_row_and_hash(source, admin, app, s3):
    made = create(job(source, s3), silent)
    assert catalog.find(s3, "shop") == made
    with app.on("shop").connect() as connection:
        connection.execute("DELETE FROM public.orders")
    report = run(RestoreJob(store=s3, manifest=made, admin=admin, owner=app, live=("shop",)), silent)
    assert report.differences == []
    with app.on(report.target).connect() as connection:
        assert connection.execute("SELECT count(*) FROM public.orders").fetchone() == (3000,)
