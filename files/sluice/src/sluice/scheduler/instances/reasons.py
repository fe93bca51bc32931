"""What Slurm's job states and reasons mean for a waiting job: whether it will ever run. Pure.

The names are those of Slurm 20.11 to 25.11. In place of a reason squeue sometimes prints a free text; those
texts are listed too. docs/scheduler.md has the same table.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping


class Treatment(enum.Enum):
    """What the scheduler does with a job that Slurm shows in this state, or with this reason.

    BY_REASON: the state says only that the job waits, so its reason decides. FOLLOWS: the state alone
    decides. WAITS: the job's turn comes by itself. TELLS: something outside must change first; people are
    told. GIVES_UP: the same, but the change may never come, so the job is cancelled after a while. ENDS:
    nobody will release the job; a new one has a better chance. LEFT: a person holds the job on purpose.
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
        # Slurm would start the job if somebody changed the limit, the account or the partition.
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
        # Slurm set the job's priority to 0, or the job waits for something that can no longer happen.
        Treatment.ENDS: """
            BadConstraints BurstBufferOperation DependencyNeverSatisfied JobHoldMaxRequeue
            ReservationDeleted ReservationInvalid
        """,
        Treatment.LEFT: "JobHeldAdmin JobHeldUser",
    }
)

# Free texts in place of a reason. The first match counts.
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
    """Return what is done with a job in this state, with this reason.

    An unknown state or reason, of a later Slurm version, is treated as GIVES_UP.
    """
    found = STATES.get(state, Treatment.GIVES_UP)
    return of_reason(reason) if found is Treatment.BY_REASON else found


def of_reason(reason: str) -> Treatment:
    """Return what is done with a job that waits for this reason: one of Slurm's names, or a free text."""
    if not reason or reason in REASONS:
        return REASONS.get(reason, Treatment.WAITS)
    # scontrol writes free text with underscores.
    said = reason.replace("_", " ")
    return next((found for pattern, found in _TEXTS if pattern.fullmatch(said)), Treatment.GIVES_UP)
