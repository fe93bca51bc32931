"""What Slurm's job states and reasons mean for a waiting job: whether it will ever continue. Pure.

Names are Slurm's own, of the versions 20.11 to 25.11; squeue prints a free text in a reason's place where
Slurm has one, so those texts are here too. docs/scheduler.md shows the same table to people.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping


class Treatment(enum.Enum):
    """What becomes of a job that Slurm shows in this state, or for this reason.

    BY_REASON: the state says only that it waits. FOLLOWS: the state tells more than any reason. WAITS: it
    passes by itself, soon or in its turn. TELLS: it passes when something outside changes, and people should
    know. GIVES_UP: the same, but whatever it waits for may never come, so it ends after a while. ENDS: nobody
    lets it go on; a new job stands a better chance. LEFT: a person holds it on purpose.
    """

    BY_REASON = "by its reason"
    FOLLOWS = "followed"
    WAITS = "waits"
    TELLS = "waits, shown as the obstacle"
    GIVES_UP = "waits, shown as the obstacle, ended after pending_patience"
    ENDS = "ended at once, shown, counts as a failed start"
    LEFT = "left alone, shown as the obstacle"


def _table(rows: Mapping[Treatment, str]) -> dict[str, Treatment]:
    return {name: treatment for treatment, names in rows.items() for name in names.split()}


STATES = _table(
    {
        Treatment.BY_REASON: "PENDING REQUEUED REQUEUED_CRON REQUEUE_FED EXPEDITING",
        Treatment.WAITS: "CONFIGURING",
        Treatment.ENDS: "REQUEUE_HOLD RESV_DEL_HOLD SPECIAL_EXIT",
        Treatment.FOLLOWS: """
            RUNNING SIGNALING RESIZING SUSPENDED STOPPED COMPLETING STAGE_OUT
            BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED REVOKED TIMEOUT
        """,
    }
)

REASONS = _table(
    {
        Treatment.WAITS: """
            None Prolog Priority Resources BeginTime Cleaning Licenses SchedDefer FedJobLock
            Dependency JobArrayTaskLimit BurstBufferResources BurstBufferStageIn MpiPortsBusy
            NvidiaImexChannels MaxPoweredUpNodes
            NonZeroExitCode RaisedSignal TimeLimit InactiveLimit OutOfMemory DeadLine
            SystemFailure JobLaunchFailure
        """,
        Treatment.TELLS: """
            PartitionDown PartitionInactive NodeDown ReqNodeNotAvail Reservation FrontEndDown
            PowerNotAvail PowerReserved BlockMaxError BlockFreeAction
            AssociationJobLimit AssociationResourceLimit AssociationTimeLimit
            QOSUsageThreshold QOSJobLimit QOSResourceLimit QOSTimeLimit

            AssocGrpJobsLimit AssocGrpSubmitJobsLimit AssocGrpWallLimit AssocMaxJobsLimit
            AssocMaxSubmitJobLimit AssocGrpCpuLimit AssocGrpCPUMinutesLimit AssocGrpCPURunMinutesLimit
            AssocGrpMemLimit AssocGrpMemMinutes AssocGrpMemRunMinutes
            AssocGrpNodeLimit AssocGrpNodeMinutes AssocGrpNodeRunMinutes
            AssocGrpEnergy AssocGrpEnergyMinutes AssocGrpEnergyRunMinutes
            AssocGrpGRES AssocGrpGRESMinutes AssocGrpGRESRunMinutes
            AssocGrpLicense AssocGrpLicenseMinutes AssocGrpLicenseRunMinutes
            AssocGrpBB AssocGrpBBMinutes AssocGrpBBRunMinutes
            AssocGrpBilling AssocGrpBillingMinutes AssocGrpBillingRunMinutes
            AssocGrpUnknown AssocGrpUnknownMinutes AssocGrpUnknownRunMinutes

            QOSGrpJobsLimit QOSGrpSubmitJobsLimit QOSGrpWallLimit QOSMaxJobsPerUserLimit
            QOSMaxSubmitJobPerUserLimit QOSGrpCpuLimit QOSGrpCPUMinutesLimit QOSGrpCPURunMinutesLimit
            QOSMaxCpuPerUserLimit QOSGrpMemLimit QOSGrpMemoryMinutes QOSGrpMemoryRunMinutes
            QOSMaxMemoryPerUser QOSGrpNodeLimit QOSGrpNodeMinutes QOSGrpNodeRunMinutes QOSMaxNodePerUserLimit
            QOSGrpEnergy QOSGrpEnergyMinutes QOSGrpEnergyRunMinutes QOSMaxEnergyPerUser
            QOSGrpGRES QOSGrpGRESMinutes QOSGrpGRESRunMinutes QOSMaxGRESPerUser
            QOSGrpLicense QOSGrpLicenseMinutes QOSGrpLicenseRunMinutes QOSMaxLicensePerUser
            QOSGrpBB QOSGrpBBMinutes QOSGrpBBRunMinutes QOSMaxBBPerUser
            QOSGrpBilling QOSGrpBillingMinutes QOSGrpBillingRunMinutes QOSMaxBillingPerUser
            QOSGrpUnknown QOSGrpUnknownMinutes QOSGrpUnknownRunMinutes QOSMaxUnknownPerUser

            MaxJobsPerAccount MaxSubmitJobsPerAccount MaxBBPerAccount MaxBillingPerAccount MaxCpuPerAccount
            MaxEnergyPerAccount MaxGRESPerAccount MaxLicensePerAccount MaxMemoryPerAccount MaxNodePerAccount
            MaxUnknownPerAccount
            MaxBBRunMinsPerAccount MaxBillingRunMinsPerAccount MaxCpuRunMinsPerAccount
            MaxEnergyRunMinsPerAccount MaxGRESRunMinsPerAccount MaxLicenseRunMinsPerAccount
            MaxMemoryRunMinsPerAccount MaxNodeRunMinsPerAccount MaxUnknownRunMinsPerAccount
            MaxBBRunMinsPerUser MaxBillingRunMinsPerUser MaxCpuRunMinsPerUser MaxEnergyRunMinsPerUser
            MaxGRESRunMinsPerUser MaxLicenseRunMinsPerUser MaxMemoryRunMinsPerUser MaxNodeRunMinsPerUser
            MaxUnknownRunMinsPerUser
        """,
        # Slurm would let the job go on if somebody changed the limit, the account or the partition.
        Treatment.GIVES_UP: """
            InvalidAccount InvalidQOS AccountNotAllowed QOSNotAllowed AccountingPolicy
            PartitionNodeLimit PartitionTimeLimit PartitionConfig MaxMemPerLimit Constraints

            AssocMaxCpuPerJobLimit AssocMaxCpuPerNode AssocMaxCpuMinutesPerJobLimit
            AssocMaxNodePerJobLimit AssocMaxNodeMinutesPerJob AssocMaxWallDurationPerJobLimit
            AssocMaxMemPerJob AssocMaxMemPerNode AssocMaxMemMinutesPerJob
            AssocMaxEnergyPerJob AssocMaxEnergyPerNode AssocMaxEnergyMinutesPerJob
            AssocMaxGRESPerJob AssocMaxGRESPerNode AssocMaxGRESMinutesPerJob
            AssocMaxLicensePerJob AssocMaxLicenseMinutesPerJob
            AssocMaxBBPerJob AssocMaxBBPerNode AssocMaxBBMinutesPerJob
            AssocMaxBillingPerJob AssocMaxBillingPerNode AssocMaxBillingMinutesPerJob
            AssocMaxUnknownPerJob AssocMaxUnknownPerNode AssocMaxUnknownMinutesPerJob

            QOSMaxCpuPerJobLimit QOSMaxCpuPerNode QOSMaxCpuMinutesPerJobLimit QOSMinCpuNotSatisfied
            QOSMaxNodePerJobLimit QOSMaxNodeMinutesPerJob QOSMinNode QOSMaxWallDurationPerJobLimit
            QOSMaxMemoryPerJob QOSMaxMemoryPerNode QOSMaxMemoryMinutesPerJob QOSMinMemory
            QOSMaxEnergyPerJob QOSMaxEnergyPerNode QOSMaxEnergyMinutesPerJob QOSMinEnergy
            QOSMaxGRESPerJob QOSMaxGRESPerNode QOSMaxGRESMinutesPerJob QOSMinGRES
            QOSMaxLicensePerJob QOSMaxLicenseMinutesPerJob QOSMinLicense
            QOSMaxBBPerJob QOSMaxBBPerNode QOSMinBB
            QOSMaxBillingPerJob QOSMaxBillingPerNode QOSMaxBillingMinutesPerJob QOSMinBilling
            QOSMaxUnknownPerJob QOSMaxUnknownPerNode QOSMaxUnknownMinutesPerJob QOSMinUnknown
        """,
        # Slurm gave the job the priority 0, or it waits for what cannot come any more.
        Treatment.ENDS: """
            BadConstraints BurstBufferOperation DependencyNeverSatisfied JobHoldMaxRequeue
            ReservationDeleted ReservationInvalid
        """,
        Treatment.LEFT: "JobHeldAdmin JobHeldUser",
    }
)

# Free texts that stand in a reason's place. The first that fits holds.
TEXTS: tuple[tuple[str, Treatment], ...] = (
    (r"launch failed requeued held", Treatment.ENDS),
    (r"launch failure limit exceeded requeued held", Treatment.ENDS),
    (r"user env retrieval failed requeued held", Treatment.ENDS),
    (r"job requeued in held state", Treatment.ENDS),
    (r"job requeued in special exit state", Treatment.ENDS),
    (r"Reservation .+ was deleted", Treatment.ENDS),
    (r"Reservation .+ is invalid", Treatment.ENDS),
    (r"Reservation .+, which this job was running under, has ended", Treatment.WAITS),
    (r"ReqNodeNotAvail, .+", Treatment.TELLS),
    (r"Nodes required for job are DOWN, DRAINED.*", Treatment.TELLS),
    (r"Job is at or exceeds (QOS|association) .+", Treatment.TELLS),
    (r"RaisedSignal:.+", Treatment.WAITS),
    (r"uid [0-9]+ not in group permitted to use this partition .+", Treatment.GIVES_UP),
    (r"Job's (QOS|account) not (known|permitted).+", Treatment.GIVES_UP),
)
_TEXTS = tuple((re.compile(pattern, re.DOTALL), treatment) for pattern, treatment in TEXTS)


def treatment(state: str, reason: str) -> Treatment:
    """Return what becomes of a job in this state, for this reason.

    A state or reason that Slurm has only since a later version waits, is told, and is given up after a while.
    """
    found = STATES.get(state, Treatment.GIVES_UP)
    return of_reason(reason) if found is Treatment.BY_REASON else found


def of_reason(reason: str) -> Treatment:
    """Return what becomes of a job that waits for this reason: a name of Slurm's, or a free text."""
    if not reason or reason in REASONS:
        return REASONS.get(reason, Treatment.WAITS)
    # scontrol writes free text with underscores.
    said = reason.replace("_", " ")
    return next((found for pattern, found in _TEXTS if pattern.fullmatch(said)), Treatment.GIVES_UP)
